from fedloom.local.federation import *  # noqa
