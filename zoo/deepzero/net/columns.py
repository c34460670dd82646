"""Columns of the table of stages that the kernels read.

The first ones are fields of :class:`zoo.deepzero.net.network.Stage`; the others say where its rows
are.
"""

#: Fields of a stage.
FIELDS = (
    "channels_in", "height_in", "width_in", "channels", "kernel_height", "kernel_width", "stride",
    "padding", "height_conv", "width_conv", "weight", "bias", "gamma", "beta", "shortcut_stride",
    "shortcut_channel", "activation", "levels", "maxpool", "height_pool", "width_pool",
    "average_height", "average_width", "height", "width",
)  # fmt: skip
(
    CIN, HIN, WIN, C, KH, KW, STRIDE, PADDING, HCONV, WCONV, WEIGHT, BIAS, GAMMA, BETA,
    SHORTCUT_STRIDE, SHORTCUT_CHANNEL, ACTIVATION, LEVELS, MAXPOOL, HPOOL, WPOOL, AVERAGE_H,
    AVERAGE_W, H, W,
) = range(len(FIELDS))  # fmt: skip
#: Activation that a shortcut adds, -1: none; its first row, and its shape.
SHORTCUT, SHORTCUT_AT, SHORTCUT_C, SHORTCUT_H, SHORTCUT_W = range(W + 1, W + 6)
#: First rows of the input, the output, the normalized convolution, the gaps to the maximum and u;
#: first channel among those of all stages.
IN_AT, OUT_AT, Z_AT, GAP_AT, U_AT, CHANNEL_AT = range(W + 6, W + 12)
