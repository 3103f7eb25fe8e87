"""The Mask R-CNN that outlines the body.

TF Model Garden's model, between the preprocessing and the paste and refinement of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from official.vision.configs import backbones as backbone_configs
from official.vision.configs import common, maskrcnn
from official.vision.configs import decoders as decoder_configs
from official.vision.modeling import factory
from official.vision.modeling.backbones import factory as backbone_factory
from official.vision.modeling.decoders import factory as decoder_factory

from coverslip_graph.paste import paste
from coverslip_graph.preprocess import CHANNELS, SIDE, prepare
from coverslip_graph.refine import CELLS, refine
from coverslip_graph.regions import Detections, HatAligner, Proposals

MASK_LEVEL = 2
"""Pyramid level (stride 4) that masks are cut from: fine, because the rim matters most. Regions are
proposed on levels 3 to 5."""

CANDIDATES = 48
PROPOSALS = 8
PROPOSAL_OVERLAP = 0.7
DETECTIONS = 1
DETECTION_OVERLAP = 0.5


def model_config() -> maskrcnn.MaskRCNN:
    """Model Garden configuration of the released network.

    ResNet-10 of half width, FPN of 48 filters, one class. Masks are predicted in boxes 1.2 times
    the detected ones (``outer_boxes_scale``), so that a box a few pixels too small does not cut the
    body off.
    """
    return maskrcnn.MaskRCNN(
        num_classes=2,
        input_size=[SIDE, SIDE, CHANNELS],
        min_level=3,
        max_level=5,
        outer_boxes_scale=1.2,
        backbone=backbone_configs.Backbone(
            type="resnet", resnet=backbone_configs.ResNet(model_id=10, depth_multiplier=0.5)
        ),
        decoder=decoder_configs.Decoder(type="fpn", fpn=decoder_configs.FPN(num_filters=48)),
        rpn_head=maskrcnn.RPNHead(num_convs=1, num_filters=48),
        detection_head=maskrcnn.DetectionHead(
            num_convs=0, num_fcs=1, fc_dims=192, class_agnostic_bbox_pred=True
        ),
        roi_generator=maskrcnn.ROIGenerator(
            pre_nms_top_k=256,
            num_proposals=64,
            test_pre_nms_top_k=256,
            test_num_proposals=PROPOSALS,
        ),
        roi_sampler=maskrcnn.ROISampler(num_sampled_rois=32),
        detection_generator=maskrcnn.DetectionGenerator(max_num_detections=DETECTIONS),
        mask_head=maskrcnn.MaskHead(
            upsample_factor=2, num_convs=2, num_filters=32, class_agnostic=True
        ),
        mask_sampler=maskrcnn.MaskSampler(num_sampled_masks=3),
        mask_roi_aligner=maskrcnn.MaskROIAligner(crop_size=56),
        norm_activation=common.NormActivation(
            activation="relu", norm_momentum=0.97, norm_epsilon=0.001, use_sync_bn=False
        ),
    )


def build_model(
    config: maskrcnn.MaskRCNN, regularizer: tf_keras.regularizers.Regularizer | None = None
) -> tf_keras.Model:
    """Build Model Garden's Mask R-CNN with this package's region layers.

    Its pyramid is one level finer than the levels on which regions are proposed.
    """
    specs = tf_keras.layers.InputSpec(shape=[None, *config.input_size])
    backbone = backbone_factory.build_backbone(
        specs, config.backbone, config.norm_activation, regularizer
    )
    finer = config.replace(min_level=MASK_LEVEL)
    decoder = decoder_factory.build_decoder(backbone.output_specs, finer, regularizer)
    model = factory.build_maskrcnn(specs, config, regularizer, backbone=backbone, decoder=decoder)
    model.roi_generator = Proposals(model.roi_generator, CANDIDATES, PROPOSALS, PROPOSAL_OVERLAP)
    model.detection_generator = Detections(DETECTIONS, DETECTION_OVERLAP)
    model.mask_roi_aligner = HatAligner(config.mask_roi_aligner.crop_size, MASK_LEVEL)
    model(tf_keras.Input(config.input_size), image_shape=tf_keras.Input([2]), training=False)
    return model


def write_weights(path: str | Path, arrays: Sequence[NDArray[np.float32]]) -> None:
    """Write a model's variables to an .npz file, as float16, in the model's order."""
    np.savez_compressed(
        path, **{f"{index:04d}": array.astype(np.float16) for index, array in enumerate(arrays)}
    )


class Outlined(NamedTuple):
    """The body in each image of a batch.

    Attributes
    ----------
    mask : uint8 [B, H, W]
        1 = body.
    score : float32 [B]
        Score of the best detection, 0 to 1.
    """

    mask: tf.Tensor
    score: tf.Tensor


class Network(tf.Module):
    """Outlines the body in a batch of images.

    It keeps the model's ``call`` and its variables, not the model itself: saving a module that
    tracks a built Model Garden model fails, because Keras then traces the training path.
    """

    def __init__(self, model: tf_keras.Model) -> None:
        super().__init__(name="network")
        self._call = model.call
        self._variables = list(model.variables)

    @classmethod
    def create(cls) -> Network:
        """Make a network with random weights."""
        return cls(build_model(model_config()))

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Make a network with the weights of an .npz file that `save_weights` wrote.

        Raises
        ------
        ValueError
            The file holds the weights of another network.
        """
        network = cls.create()
        network.load_weights(path)
        return network

    def load_weights(self, path: str | Path) -> None:
        """Assign the weights of an .npz file; raises ValueError if they do not fit this network."""
        with np.load(path, allow_pickle=False) as stored:
            shapes = [stored[name].shape for name in sorted(stored.files)]
            wanted = [tuple(variable.shape) for variable in self._variables]
            if shapes != wanted:
                raise ValueError(
                    f"{path} holds {len(shapes)} arrays that do not fit the network's "
                    f"{len(wanted)} variables; retrain, or use the weights that came with this "
                    "version"
                )
            for variable, name in zip(self._variables, sorted(stored.files), strict=True):
                variable.assign(stored[name].astype(np.float32))

    def save_weights(self, path: str | Path) -> None:
        """Write all variables to an .npz file; see `write_weights`."""
        write_weights(path, [variable.numpy() for variable in self._variables])

    def segment(self, pixels: tf.Tensor) -> Outlined:
        """Outline the body.

        Parameters
        ----------
        pixels : int32 [B, H, W]
            Stored values; any H and W.
        """
        prepared = prepare(pixels)
        batch = tf.shape(pixels)[0]
        shapes = tf.tile(prepared.shape[tf.newaxis], tf.stack([batch, 1]))
        out = self._call(prepared.image, image_shape=shapes, training=False)
        scores = out["detection_scores"]
        pasted = paste(out["detection_masks"], out["detection_outer_boxes"], scores, CELLS)
        return Outlined(
            refine(pasted, prepared.plane, prepared.levels, pixels, prepared.scale), scores[:, 0]
        )
