#include "channel/doorbell.h"
