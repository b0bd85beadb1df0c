"""When this process began to load this program; it may run the old of what is changed later."""

import time

LOADED_AT = time.time()
