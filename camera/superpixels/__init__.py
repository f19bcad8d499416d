"""Regions of images from several sources behind one function."""

from .ids import IGNORE as IGNORE
from .provider import PROVIDERS as PROVIDERS
from .provider import make_provider as make_provider
from .provider import make_superpixels as make_superpixels
from .quality import QualityReport as QualityReport
from .quality import quality_report as quality_report
from .store import lacking_maps as lacking_maps
from .store import noted_image as noted_image
from .store import read_record as read_record
from .store import read_superpixels as read_superpixels
from .store import write_superpixels as write_superpixels
