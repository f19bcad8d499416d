"""mmengine's Runner with our loader, checkpoints and devices."""

from __future__ import annotations

import copy
import itertools
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from mmengine.runner import Runner
from torch import nn

from .. import __version__
from ..errors import InputError
from ..files.access import check_place, make_folder
from ..files.writes import building, write_text
from ..hub.checkpoint import (
    check_intensity,
    check_start,
    find_last,
    load_weights,
    options_of_start,
    read_checkpoint,
)
from ..hub.leakage import check_run
from ..method.distributed import rank, world_size
from ..method.from_data import options_of_data
from ..method.launch import start_distributed
from ..protocol import commit
from .config import config_text
from .continuation import Change, find_changes
from .hooks import DEFAULT_HOOKS, FirstBatchesHook
from .loader import build_dataset, named
from .model import EngineModel
from .optim import build_optim_wrapper
from .registry import MODELS, as_plain
from .resume import check_same_start, go_on
from .training_plan import base_batch_size, training_plan

_runs = itertools.count()
PATIENCE_S = 15.0  # for a training that was killed: its loader's workers look every 5 s whether it lives
PACKAGE = __name__.partition(".")[0]  # whose loggers a run writes down


def build_runner(config: Config) -> EngineRunner:
    """The runner of a config that `config.load_config` has checked; ``.train()`` or ``.test()`` starts it.

    Raises:
        InputError: the config cannot be used.
    """
    config = copy.deepcopy(config)
    # mmengine keeps loggers by name for the whole process: runs of the same second must not share one
    config.setdefault("experiment_name", f"{Path(config.filename or 'run').stem}_{next(_runs)}")
    config.setdefault("env_cfg", {})  # mmengine's own default asks for nccl, also on a CPU
    for stage in ("train", "val", "test"):
        if config.get(f"{stage}_cfg") is not None:
            config[f"{stage}_cfg"].setdefault("type", f"{stage.title()}Loop")
    return EngineRunner.from_cfg(config)


class EngineRunner(Runner):
    """Runs are counted in iterations, start where a checkpoint ends, and repeat bit by bit from their seed.

    On CUDA that needs ``randomness=dict(deterministic=True)``: without it atomic sums and spconv's choice of kernels
    differ from run to run. Torch warns of operators that have no deterministic form.

    Attributes:
        changes: against the run that is resumed. leakage: recordings that were trained on and are evaluated.
        evaluated: records of what is measured beside this run's own evaluation.
        plain_model: what the config's ``model`` describes. engine_model: around it, without the wrapper for many
            processes.
    """

    plain_model: nn.Module
    engine_model: EngineModel

    loaded_from: Path | None = None
    loaded_iteration = 0
    _has_loaded = False

    def __init__(self, *args: Any, **options: Any) -> None:
        self.changes: list[Change] = []
        self.leakage: dict[str, Any] = {}
        self.evaluated: dict[str, Any] = {}
        self._begun, self._commit = time.monotonic(), commit()
        # the checkpoint that the model was built from, until it has its weights
        self._read: dict[Path | None, dict[str, Any]] = {}
        # of new folders, until all was looked at that is refused before the first step
        self._unmake = ExitStack()
        with self._leaving_nothing():
            self._make(Path(options["work_dir"]), os.rmdir)  # others may write there meanwhile
            check_place(options["work_dir"])
            super().__init__(*args, **options)

    # -- what the hooks read ---------------------------------------------------------------------------------

    @property
    def work_path(self) -> Path:
        """Folder of the run."""
        return Path(self.work_dir)

    @property
    def seconds(self) -> float:
        """Time of the run so far, earlier parts of a resumed run included."""
        return time.monotonic() - self._begun

    @property
    def has_learned(self) -> bool:
        """Whether a batch so far taught something; True where nobody watches for that."""
        return all(hook.has_learned for hook in self.hooks if isinstance(hook, FirstBatchesHook))

    def datasets(self) -> dict[str, Any]:
        """The datasets in use by their stage: train, val, test."""
        loops = {"train": self._train_loop, "val": self._val_loop, "test": self._test_loop}
        return {name: loop.dataloader.dataset for name, loop in loops.items() if hasattr(loop, "dataloader")}

    def data_records(self) -> dict[str, Any]:
        """What each dataset in use says about itself (name, real or made, hash)."""
        return {
            name: dataset.record() if hasattr(dataset, "record") else {"items": len(dataset)}
            for name, dataset in self.datasets().items()
        }

    def record(self) -> dict[str, Any]:
        """What the model and its data say about themselves, for checkpoints."""
        return {**self.engine_model.record(), "data": self.data_records()}

    # -- environment -----------------------------------------------------------------------------------------

    def setup_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Processes, threads and the time stamp of the run."""
        start_distributed(self._launcher, **env_cfg.get("dist_cfg", {}))
        if env_cfg.get("threads"):
            torch.set_num_threads(env_cfg["threads"])
        torch.backends.cudnn.benchmark = env_cfg.get("cudnn_benchmark", False)
        super().setup_env({"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}})
        self._make(self.work_path / self.timestamp, shutil.rmtree)

    def set_randomness(self, seed: int | None = 0, deterministic: bool = False) -> None:
        """Seed everything; without a seed the run gets 0, so that every run can be repeated.

        ``deterministic`` is slower; on CUDA runs do not repeat without it.
        """
        super().set_randomness(seed or 0, deterministic=deterministic)
        if deterministic:  # some operators have no deterministic form: warn, do not stop
            torch.use_deterministic_algorithms(True, warn_only=True)

    def build_logger(self, log_level: int | str = "INFO", **options: Any) -> Any:
        """mmengine's logger, which the package's own loggers write to as well until the run ends."""
        logger, package = super().build_logger(log_level=log_level, **options), logging.getLogger(PACKAGE)
        package.handlers, package.propagate = list(logger.handlers), False
        package.setLevel(log_level)
        return logger

    def train(self) -> nn.Module:
        """Train to the end; the module as it is then.

        Raises:
            InputError: another process is training in the same folder: each would delete the other's checkpoints.
        """
        told = "another training is running here; end it first, or give this one another --work-dir"
        with self._leaving_nothing(), _logged(self.logger.handlers), ExitStack() as stack:
            if rank() == 0:
                stack.enter_context(building(self.work_dir, ".training", busy=told, patience_s=PATIENCE_S))
                self._tell_of_earlier()
            return super().train()

    def _make(self, folder: Path, remove: Callable[[Path], None]) -> None:
        if not folder.exists():
            self._unmake.callback(remove, make_folder(folder))

    @contextmanager
    def _leaving_nothing(self) -> Iterator[None]:
        """A run that is refused before it begins leaves no folder: all that it has to say stands on the screen."""
        try:
            yield
        except InputError:
            if rank() == 0:
                with suppress(OSError):
                    self._unmake.close()
            raise

    def _tell_of_earlier(self) -> None:
        """Say that what lies in the folder is of another training, where this one begins anew."""
        before = None if self._resume else find_last(self.work_dir)
        if before is not None:
            self.logger.warning(
                f"{self.work_dir}: holds checkpoints of an earlier training, up to {before.name}; this one begins anew "
                "and writes over them, --resume goes on from them until it has written its first, and best_*.pth may "
                "stay that of the earlier one; end it to go on there with --resume, or to give another --work-dir"
            )

    def test(self) -> dict[str, float]:
        """Figures on the test data."""
        with self._leaving_nothing(), _logged(self.logger.handlers):
            return super().test()

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        self.logger.info(
            f"superflow {__version__}, torch {torch.__version__}, mmengine {mmengine.__version__}, "
            f"python {platform.python_version()}, {gpu}, {world_size()} process(es), "
            f"{torch.get_num_threads()} thread(s), seed {self._seed}, {self.work_dir}"
        )

    def dump_config(self) -> None:
        """Not yet: what stands there is of an earlier run, and stays where this one is refused."""

    def get_hooks_info(self) -> str:
        """Names of the hooks in the order of their calls."""
        return ", ".join(type(hook).__name__ for hook in self.hooks)

    # -- parts -----------------------------------------------------------------------------------------------

    def build_model(self, model: Mapping[str, Any]) -> EngineModel:
        """The plain model of the config, wrapped."""
        with named("model"):
            options = as_plain(model)
            if options["type"] in ("Pretrainer", "Segmentor"):
                start = self._first_checkpoint
                self._read = {} if start is None else {start: read_checkpoint(start)}
                options |= options_of_start(options, self._read.get(start, {}))
                options |= options_of_data(options, self._built_datasets())
            self.plain_model = MODELS.build(options)
        self.engine_model = EngineModel(self.plain_model)
        return self.engine_model

    def _built_datasets(self) -> dict[str, Any]:
        """The datasets that this run begins with; their loaders take these instead of building them again."""
        built: dict[str, Any] = {}
        for stage in ("test",) if self._train_dataloader is None else ("train", "val"):
            name = f"_{stage}_dataloader"
            loader = getattr(self, name)
            if isinstance(loader, Mapping):
                built[stage] = build_dataset(loader["dataset"])
                setattr(self, name, {**loader, "dataset": built[stage]})
        return built

    def wrap_model(self, model_wrapper_cfg: Mapping[str, Any] | None, model: nn.Module) -> nn.Module:
        """On its device, and in several processes with gradients averaged over them.

        Batch norm in several processes: each normalises with its own batch (``sync_bn="torch"`` joins them, on
        CUDA, but for those of a teacher). Running statistics are rank 0's, broadcast before every forward pass, so
        that a resumed run continues exactly; ``model_wrapper_cfg=dict(broadcast_buffers=False)`` keeps them apart.
        """
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else "cpu"
        model = model.to(device)
        if not self.distributed:
            return model
        # a teacher's have nothing to join, and timm's are activations as well, which would be lost
        parts = {name: part for name, part in self.plain_model.named_children() if name != "teacher"}
        for name, part in parts.items() if self.cfg.get("sync_bn") else ():
            setattr(self.plain_model, name, convert_sync_batchnorm(part, self.cfg.sync_bn))
        options = {"find_unused_parameters": self.cfg.get("find_unused_parameters", False)}
        options |= {name: value for name, value in (model_wrapper_cfg or {}).items() if name != "type"}
        devices = [device] if torch.cuda.is_available() else None
        return MMDistributedDataParallel(model, device_ids=devices, **options)

    def _init_model_weights(self) -> None:
        pass  # built models are ready, and pretrained teachers bring an `init_weights` that would reset them

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """See `optim.build_optim_wrapper`."""
        is_built = not isinstance(optim_wrapper, dict)
        return optim_wrapper if is_built else build_optim_wrapper(self.plain_model, optim_wrapper)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: Mapping[str, Any] | None = None) -> None:
        """mmengine's linear rule: learning rates grow with the batch of all processes and accumulated iterations."""
        sampler, base = self.train_loop.sampler, base_batch_size(auto_scale_lr)
        batch = sampler.batch_size * sampler.world_size * optim_wrapper._accumulative_counts
        for group in optim_wrapper.param_groups:  # with mmengine's, which is the "base_lr" of the log
            group["lr"] *= 1 if base is None else batch / base

    def build_param_scheduler(self, scheduler: Any) -> list[Any]:
        """Schedulers by iteration; one without an end goes on to the end of the run."""
        entries = scheduler if isinstance(scheduler, list | tuple) else [scheduler]
        with named("param_scheduler"):
            built = super().build_param_scheduler(
                [{"by_epoch": False, **entry} if isinstance(entry, dict) else entry for entry in entries]
            )
            for scheduler in built:
                if scheduler.by_epoch and not getattr(scheduler, "need_val_args", False):
                    raise ValueError("by_epoch must be False: a run is counted in iterations")
        # mmengine would warn where schedules go on without the optimizer: while gradients are accumulated, to resume
        self.optim_wrapper._global_step = 0
        return built

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """mmengine's, which says which hook was refused."""
        with named(f"hook {hook['type'] if isinstance(hook, dict) else hook}"):
            super().register_hook(hook, priority)

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """Ours, with a config's own settings laid over them; None takes one away."""
        for name, known in DEFAULT_HOOKS.items():
            own = (hooks or {}).get(name, {})
            if own is not None:
                same = own.get("type", known["type"]) == known["type"]
                self.register_hook({**(known if same else {}), **own})

    # -- checkpoints -----------------------------------------------------------------------------------------

    def checkpoint(self) -> dict[str, Any]:
        """All that resuming after the current iteration needs, as live tensors."""
        checkpoint = {
            "meta": {
                "iter": self.iter,
                "epoch": 0,
                "seed": self.seed,
                "seconds": self.seconds,
                "world_size": self.world_size,
                "version": __version__,
                "commit": self._commit,  # of the code as this run began
                "plan": training_plan(self).record(),
                "config": self._config_text,
            },
            "superflow": self.record(),
            "state_dict": self.engine_model.saved_state(),
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self.param_schedulers or []],
        }
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        return checkpoint

    @cached_property
    def _config_text(self) -> str:
        return config_text(self.cfg)

    @cached_property
    def _first_checkpoint(self) -> Path | None:
        """What this run begins with: the one to resume, ``load_from``, or nothing."""
        if self._load_from is not None:
            return Path(self._load_from)
        return find_last(self.work_dir) if self._resume else None

    def load_or_resume(self) -> None:
        """Continue the newest checkpoint of the work folder, or begin with ``load_from``'s weights."""
        if self._has_loaded:
            return
        self._has_loaded = True
        pretrained = self.engine_model.record().get("pretrained")
        if isinstance(pretrained, Mapping):
            check_intensity(pretrained.get("raw_intensity"), self.data_records(), str(pretrained.get("file")))
        path, began = self._first_checkpoint, None
        if path is None and self._resume:
            self.logger.info(f"no checkpoint in {self.work_dir} to resume from: starting at iteration 0")
        elif path is not None and self._resume:
            self.resume(path)
        elif path is not None:
            began = self.load_checkpoint(path).get("superflow", {})
        if world_size() > 1:
            start = "no checkpoint" if path is None else f"{path.name} of iteration {self.loaded_iteration}"
            check_same_start(start, self.data_records())
        self._check_leakage(began)
        self._unmake.pop_all()
        if rank() == 0:
            name = "test_config.py" if self._train_loop is None else "config.py"
            write_text(self.work_path / name, self._config_text)

    def _check_leakage(self, began: Mapping[str, Any] | None) -> None:
        """Refuse to measure weights on drives that they, or what they began as, have seen, unless that is allowed."""
        allowed = bool(self.cfg.get("allow_leakage", False))
        record = {**self.record(), "data": {**self.data_records(), **self.evaluated}}
        found = check_run(record, began, str(self.loaded_from), allowed=allowed)
        self.leakage = {"allowed": allowed, "recordings": found}
        if found:
            self.logger.warning(f"evaluated on drives that training has seen, as allowed: {', '.join(found)}")

    def load_checkpoint(
        self, filename: str | Path, *, to_resume: bool = False, **unused: Any
    ) -> dict[str, Any]:
        """Weights of a checkpoint, and what hooks take from it; names and shapes must all fit.

        Args:
            to_resume: take the weights that were trained where an average is beside them.

        Raises:
            InputError: the file is damaged or not finite, of another architecture, teacher or scale of intensity.
        """
        checkpoint, record = self._read.pop(Path(filename), None) or read_checkpoint(filename), self.record()
        parameters = [name for name, _ in self.plain_model.named_parameters()]
        check_start(checkpoint, str(filename), record=record, parameters=parameters)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        averaged = checkpoint["state_dict"]
        weights = checkpoint.get("training_state_dict", averaged) if to_resume else averaged
        load_weights(self.plain_model, weights, str(filename), optional=self.engine_model.unsaved)
        self.loaded_from, self.loaded_iteration = Path(filename), checkpoint["meta"]["iter"]
        self.logger.info(f"loaded {filename} (iteration {self.loaded_iteration})")
        return checkpoint

    def resume(self, filename: str | Path, **unused: Any) -> None:
        """Everything of a checkpoint, so that the run goes on as if it had never stopped.

        Learning rates are those of this config, whose length or peak may be another one.

        Raises:
            InputError: another seed, data, model or optimizer, an end that is behind it, or a damaged file.
        """
        of_this_run = {"config": self._config_text, "record": self.record(), "processes": self.world_size}
        checkpoint = self.load_checkpoint(filename, to_resume=True)
        self.changes = find_changes(checkpoint, **of_this_run)
        self.call_hook("after_resume", checkpoint=checkpoint)
        go_on(self, checkpoint, str(filename))
        self.train_loop.iter = checkpoint["meta"]["iter"]
        self._begun -= checkpoint["meta"]["seconds"]


@contextmanager
def logging_kept() -> Iterator[None]:
    """What runs do within it to the package's logging ends with it: a trial that is quiet silences nothing later."""
    package = logging.getLogger(PACKAGE)
    handlers, propagate, level = package.handlers, package.propagate, package.level
    try:
        yield
    finally:
        package.handlers, package.propagate = handlers, propagate
        package.setLevel(level)


@contextmanager
def _logged(handlers: Iterable[logging.Handler]) -> Iterator[None]:
    """The package's loggers write to a run's handlers; later in this process no longer to its files."""
    package = logging.getLogger(PACKAGE)
    package.handlers = list(handlers)
    try:
        yield
    finally:
        package.handlers = [each for each in handlers if not isinstance(each, logging.FileHandler)]
