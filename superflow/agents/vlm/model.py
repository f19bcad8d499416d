"""The model: features of a scan take the places that the prompt keeps for them, and a language model reads on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from ...errors import InputError
from .camera import CameraConnector
from .config import LidarVLMConfig
from .connector import CONNECTOR_CLASSES, PixelShuffleConnector
from .tower import LidarTower
from .vir import TileRouter, join_tokens

# of what a prompt brings once, none is needed again when a token is added
_ONCE = (
    "pixel_values",
    "points",
    "lidar_to_ego",
    "lidar_embeds",
    "lidar_rows",
    "lidar_lengths",
    "tiles_kept",
    "camera_maps",
)


class LidarVLMPreTrainedModel(PreTrainedModel):
    """What both classes below share."""

    config_class = LidarVLMConfig
    config: LidarVLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    # a sparse convolution in bfloat16 is many times slower on a CPU, and metres lose their digits
    _keep_in_fp32_modules_strict = {"lidar_tower"}  # noqa: RUF012

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As of every Hugging Face model; but a weight that is missing, left over or of another shape is an error.

        Raises:
            InputError: the folder holds another model than its config says.
        """
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if keys := sorted(map(str, info[kind])):
                raise InputError(
                    f"{args[0] if args else cls.__name__}: its weights do not fit its config "
                    f"({len(keys)} {kind.replace('_', ' ')}, the first {keys[0]}); save it again with save_pretrained"
                )
        return (model, info) if output_loading_info else model


class LidarVLMModel(LidarVLMPreTrainedModel):
    """Tower, connector and language model without its head."""

    def __init__(self, config: LidarVLMConfig) -> None:
        super().__init__(config)
        self.lidar_tower = LidarTower(config.tower_config)
        self.connector = CONNECTOR_CLASSES[config.connector](config)
        self.camera_connector = CameraConnector(config) if config.cameras else None
        self.short_connector = self.router = None
        if config.short_merge:
            self.short_connector = PixelShuffleConnector(config, config.short_merge)
            self.router = TileRouter(config)
        self.language_model = AutoModel.from_config(config.text_config)
        for module in self.lidar_tower.modules():  # the backbone keeps its own way of being drawn
            module._is_hf_initialized = True  # type: ignore[assignment]
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_lidar_planes(self, points: Tensor, lidar_to_ego: Tensor | None = None) -> Tensor:
        """(S, C + 1, rows, columns) planes of scans (S, N, 4+), which NaN in x fills up to equal length.

        Args:
            lidar_to_ego: (S, 4, 4); None where the points are in the vehicle's frame.
        """
        scans = [scan[~scan[:, 0].isnan()] for scan in points]
        to_ego = [None] * len(scans) if lidar_to_ego is None else list(lidar_to_ego)
        return self.lidar_tower(scans, to_ego)

    def get_lidar_features(
        self,
        pixel_values: Tensor | None = None,
        points: Tensor | None = None,
        lidar_to_ego: Tensor | None = None,
        tiles_kept: Tensor | None = None,
        camera_maps: Tensor | None = None,
    ) -> Tensor:
        """(S, T, D) tokens of S scans, from their planes (``pixel_values``) or their points; see ``forward``.

        With ``tiles_kept`` (S, tiles) it is (N, D), those of all scans one after another: ``token_counts`` tells whose.
        """
        if (pixel_values is None) == (points is None):
            raise InputError("a scan comes as planes (pixel_values) or as points; give one of them")
        if points is not None:
            pixel_values = self.get_lidar_planes(points, lidar_to_ego)
        assert pixel_values is not None
        expected = self.config.tower_config.channels + 1
        if pixel_values.ndim != 4 or pixel_values.shape[1] != expected:
            raise InputError(
                f"planes of scans are {tuple(pixel_values.shape)}; give (scans, {expected}, rows, columns)"
            )
        seen = self._camera_features(camera_maps, len(pixel_values))
        if tiles_kept is None:
            tokens = self.connector(pixel_values)
            return tokens if seen is None else torch.cat([tokens, seen], 1)
        if self.short_connector is None:
            raise InputError(
                "this model has no short tokens; build it with short_merge=..., or leave tiles_kept out"
            )
        return self._routed_features(pixel_values, self.short_connector, tiles_kept, seen)

    def _routed_features(
        self, planes: Tensor, short_connector: nn.Module, tiles_kept: Tensor, seen: Tensor | None
    ) -> Tensor:
        """(N, D) tokens of all scans one after another, after those of each ``seen`` (S, T, D) in its images."""
        grid = self.config.tower_config.bev
        if tiles_kept.shape != (len(planes), grid.tiles):
            raise InputError(
                f"tiles_kept is {tuple(tiles_kept.shape)}; give ({len(planes)}, {grid.tiles}), "
                "as the processor does"
            )
        tokens = join_tokens(self.connector(planes), short_connector(planes), tiles_kept.bool())
        if seen is None:
            return tokens
        own = (self.token_counts(tiles_kept) - self.config.camera_tokens).tolist()
        parts: list[Tensor] = []
        for scan, images in zip(tokens.split(own), seen):
            parts += [scan, images]
        return torch.cat(parts)

    def _camera_features(self, camera_maps: Tensor | None, scans: int) -> Tensor | None:
        """(S, T, D) tokens of the images; None for a model that takes none."""
        if self.camera_connector is None:
            if camera_maps is not None:
                raise InputError("this model takes no images; build it with cameras=..., or leave them out")
            return None
        config = self.config
        expected = (scans, config.cameras, config.camera_channels, *(config.camera_cells or ()))
        if camera_maps is None or camera_maps.shape != expected:
            given = "none" if camera_maps is None else tuple(camera_maps.shape)
            raise InputError(
                f"maps of images are {given}; this model takes {expected}, see camera.camera_maps"
            )
        features: Tensor = self.camera_connector(camera_maps)
        return features

    def token_counts(self, tiles_kept: Tensor) -> Tensor:
        """(S,) int64 tokens of each scan whose tiles (S, tiles) are kept or not."""
        full, short = self.config.tokens_per_tile
        kept = tiles_kept.bool()
        return kept.sum(1) * full + (~kept).sum(1) * short + self.config.camera_tokens

    def merge(
        self,
        input_ids: Tensor,
        embeddings: Tensor,
        tokens: Tensor,
        rows: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D) embeddings in which each placeholder has the feature whose turn it is in its own row.

        Args:
            input_ids: (B, L). embeddings: (B, L, D). tokens: (S, T, D), or (N, D) with lengths (S,), tokens
                of each scan. rows: (S,) row of each scan, ascending; None for one scan a row.

        Raises:
            InputError: a row has more or fewer placeholders than its scans give tokens. A sum over the batch would
                not see one too many here and one too few there, and would shift features between the rows.
        """
        if lengths is None:
            if tokens.ndim != 3:
                raise InputError(
                    f"tokens of scans are {tuple(tokens.shape)}; give (scans, tokens, width), or lidar_lengths"
                )
            lengths = torch.full((len(tokens),), tokens.shape[1], device=input_ids.device)
        if rows is None:
            rows = torch.arange(len(lengths), device=input_ids.device)
        if int(lengths.sum()) != tokens.shape[:-1].numel() or len(rows) != len(lengths):
            raise InputError(
                f"{len(lengths)} scans of {int(lengths.sum())} tokens meet {tokens.shape[:-1].numel()} tokens and "
                f"{len(rows)} rows; lidar_lengths and lidar_rows must be those of the scans"
            )
        at = input_ids == self.config.lidar_token_id
        size = max(len(input_ids), int(rows.max()) + 1 if len(rows) else 0)
        wanted = torch.zeros(size, dtype=torch.int64, device=rows.device).index_add(0, rows, lengths.to(rows))
        found = at.sum(1)
        if len(wanted) != len(input_ids) or not torch.equal(found, wanted):
            given = wanted.tolist() + [0] * (len(input_ids) - len(wanted))
            told = [
                f"row {i} has {n} LiDAR placeholders and {m} tokens"
                for i, (n, m) in enumerate(zip(found.tolist(), given))
                if n != m
            ] or [f"{len(wanted)} rows of scans meet {len(input_ids)} rows of text"]
            raise InputError(
                f"{told[0]}; a prompt that was cut (max_length) or not written by the processor does that"
            )
        return embeddings.masked_scatter(at[..., None], tokens.to(embeddings))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        points: Tensor | None = None,
        lidar_to_ego: Tensor | None = None,
        lidar_embeds: Tensor | None = None,
        lidar_rows: Tensor | None = None,
        lidar_lengths: Tensor | None = None,
        tiles_kept: Tensor | None = None,
        camera_maps: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of the language model.

        Args:
            input_ids, attention_mask: (B, L), with placeholders where scans go.
            pixel_values: (S, C + 1, rows, columns) planes; or points: (S, N, 4+) filled with NaN, with lidar_to_ego
                (S, 4, 4) where they are not in the vehicle's frame; or lidar_embeds: (S, T, D), which
                ``get_lidar_features`` made, maybe elsewhere.
            lidar_rows: (S,) int64 row of each scan, ascending; None for one scan in every row.
            tiles_kept: (S, tiles) bool, see `vir`: which tiles of a scan have their full tokens, the others the short
                ones. camera_maps: (S, cameras, C, h, w), see `camera`; their tokens follow those of their scan.
                lidar_embeds of scans with tiles_kept scans are (N, D), with lidar_lengths (S,), tokens of each scan.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give input_ids or inputs_embeds, one of them")
        if pixel_values is not None or points is not None:
            if lidar_embeds is not None:
                raise InputError("lidar_embeds are what becomes of a scan; give these or the scan")
            lidar_embeds = self.get_lidar_features(
                pixel_values, points, lidar_to_ego, tiles_kept, camera_maps
            )
            lidar_lengths = None if tiles_kept is None else self.token_counts(tiles_kept)
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = self.get_input_embeddings()(input_ids)
            if lidar_embeds is not None:
                inputs_embeds = self.merge(input_ids, inputs_embeds, lidar_embeds, lidar_rows, lidar_lengths)
            elif bool((input_ids == self.config.lidar_token_id).any()):
                raise InputError(
                    "the prompt keeps places for a scan and none is given; give one, or leave it out"
                )
        elif lidar_embeds is not None:
            raise InputError("places of scans are found in input_ids; give these instead of inputs_embeds")
        return self.language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)


class LidarVLM(LidarVLMPreTrainedModel, GenerationMixin):
    """A ``LidarVLMModel`` with a head: ``generate``, ``save_pretrained``, ``from_pretrained``, losses on ``labels``."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: LidarVLMConfig) -> None:
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # else transformers guesses it from the name of the class
        self.model = LidarVLMModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_lidar_features(self, *args: Any, **kwargs: Any) -> Tensor:
        """See ``LidarVLMModel.get_lidar_features``."""
        return self.model.get_lidar_features(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        points: Tensor | None = None,
        lidar_to_ego: Tensor | None = None,
        lidar_embeds: Tensor | None = None,
        lidar_rows: Tensor | None = None,
        lidar_lengths: Tensor | None = None,
        tiles_kept: Tensor | None = None,
        camera_maps: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the mean loss over ``labels`` (B, L) other than -100; the rest as in ``LidarVLMModel``."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            pixel_values=pixel_values,
            points=points,
            lidar_to_ego=lidar_to_ego,
            lidar_embeds=lidar_embeds,
            lidar_rows=lidar_rows,
            lidar_lengths=lidar_lengths,
            tiles_kept=tiles_kept,
            camera_maps=camera_maps,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        others = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return CausalLMOutputWithPast(loss=loss, logits=logits, **others)

    def generate(self, *args: Any, suppress_tokens: Sequence[int] | None = None, **kwargs: Any) -> Any:
        """As of every model of Hugging Face; but no placeholder of a scan is written, which only a prompt has."""
        never = sorted({*(suppress_tokens or ()), self.config.lidar_token_id})
        return super().generate(*args, suppress_tokens=never, **kwargs)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        inputs = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in _ONCE:
                inputs.pop(name, None)
        return inputs
