/* Measurements as a table. */
#ifndef REPORT_H
#define REPORT_H

#include "measure.h"

void report_head(FILE *file);

/* One line for each peer, or one without. */
void report_measurement(FILE *file, const struct measurement *measurement);

/* "device   NAME (architecture), driver ..., platform ..." */
bool report_device(FILE *file, clat_context *ctx, clat_device_info *info);

#endif
