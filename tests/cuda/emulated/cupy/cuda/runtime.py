"""`cupy.cuda.runtime`: what the device is."""


def getDeviceProperties(device):  # noqa: N802
    return {"name": b"emulated on the host", "major": 9, "minor": 0}


def runtimeGetVersion():  # noqa: N802
    return 13000
