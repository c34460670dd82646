"""A network at work on a GPU: see :mod:`zoo.deepzero.net.device.engine`."""
