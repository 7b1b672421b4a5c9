"""Nothing but what array_api_compat must find to be imported."""


def lstsq(a, b, rcond=None):
    raise NotImplementedError("the stand-in for CuPy solves no equations")
