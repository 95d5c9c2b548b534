/* `clattice info`: the device and what the library found out about it. */
#include "args.h"
#include "peer.h"

enum { MAX_PLATFORMS = 16, MAX_DEVICES = 32, NAME_BYTES = 160 };

static void device_text(cl_device_id device, cl_device_info what, char text[NAME_BYTES]) {
    if (clGetDeviceInfo(device, what, NAME_BYTES, text, NULL) != CL_SUCCESS)
        snprintf(text, NAME_BYTES, "?");
}

/* One line and one JSON object; `index` counts through all platforms. */
static bool list_device(FILE *file, json_t *list, size_t index, cl_platform_id platform,
                        cl_device_id device, bool chosen) {
    char name[NAME_BYTES] = "?", version[NAME_BYTES], from[NAME_BYTES] = "?";
    device_text(device, CL_DEVICE_NAME, name);
    device_text(device, CL_DEVICE_VERSION, version);
    clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof from, from, NULL);
    fprintf(file, "  %c %zu  %s  [%s]  %s\n", chosen ? '*' : ' ', index, name, from, version);
    return json_array_append_new(list, json_pack("{s:I, s:s, s:s, s:s, s:b}", "index",
                                                 (json_int_t)index, "name", name, "platform", from,
                                                 "version", version, "chosen", chosen)) == 0;
}

static bool list_devices(FILE *file, json_t *list, cl_device_id chosen) {
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint n_platforms = 0;
    size_t index = 0;
    fprintf(file, "\ndevices (* is the one above)\n");
    if (clGetPlatformIDs(MAX_PLATFORMS, platforms, &n_platforms) != CL_SUCCESS)
        return true;
    for (cl_uint p = 0; p < n_platforms && p < MAX_PLATFORMS; p++) {
        cl_device_id devices[MAX_DEVICES];
        cl_uint n_devices = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &n_devices) !=
            CL_SUCCESS)
            continue;
        for (cl_uint d = 0; d < n_devices && d < MAX_DEVICES; d++, index++)
            if (!list_device(file, list, index, platforms[p], devices[d], devices[d] == chosen))
                return tool_error("out of memory");
    }
    return true;
}

static const char *or_none(const char *text) {
    return text[0] ? text : "none";
}

static void print_facts(FILE *file, const clat_device_info *info) {
    char global[32], local[32], arrays[32];
    fprintf(file, "name           %s\n", info->name);
    fprintf(file, "vendor         %s\n", info->vendor);
    fprintf(file, "architecture   %s\n", info->architecture);
    fprintf(file, "platform       %s\n", info->platform);
    fprintf(file, "driver         %s\n", info->driver);
    fprintf(file, "type           %s, %u compute units\n", info->is_cpu ? "CPU" : "GPU",
            info->compute_units);
    fprintf(file, "memory         %s global, %s local, arrays in kernels %s\n",
            format_bytes(global, sizeof global, info->global_bytes),
            format_bytes(local, sizeof local, info->local_bytes),
            format_bytes(arrays, sizeof arrays, info->static_local_bytes));
    fprintf(file, "f64            %s\n", info->f64 ? "works" : "no");
    fprintf(file, "f16 arithmetic %s\n",
            info->f16_arithmetic ? "works" : "no (f16 is stored, computed in f32)");
    fprintf(file, "bf16 dot       %s\n", info->bf16_dot ? "works" : "no, or slower than f32");
    fprintf(file, "bf16 tiles     %s\n", info->bf16_tile ? "work" : "no");
    fprintf(file, "matrix engine  %s%s\n", or_none(info->matrix_engine),
            info->wgmma ? ", wgmma" : "");
    fprintf(file, "kernels        %s\n", info->kernel_dir);
    fprintf(file, "cache          %s\n", or_none(info->cache_dir));
    fprintf(file, "tuned values   %s, %zu usable\n", or_none(info->tuned_file),
            info->tuned_entries);
}

static json_t *facts_json(const clat_device_info *info) {
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:b, s:b, s:b, s:b, s:s, s:b, s:I, "
        "s:s, s:s, s:I, "
        "s:s}",
        "name", info->name, "vendor", info->vendor, "architecture", info->architecture, "driver",
        info->driver, "platform", info->platform, "is_cpu", info->is_cpu, "compute_units",
        (json_int_t)info->compute_units, "global_bytes", (json_int_t)info->global_bytes,
        "local_bytes", (json_int_t)info->local_bytes, "f64", info->f64, "f16_arithmetic",
        info->f16_arithmetic, "bf16_dot", info->bf16_dot, "bf16_tile", info->bf16_tile,
        "matrix_engine", info->matrix_engine, "wgmma", info->wgmma, "static_local_bytes",
        (json_int_t)info->static_local_bytes, "cache_dir", info->cache_dir, "tuned_file",
        info->tuned_file, "tuned_entries", (json_int_t)info->tuned_entries, "kernel_dir",
        info->kernel_dir);
}

static bool show(const struct tool_common *common) {
    clat_context *ctx = NULL;
    clat_device_info info;
    json_t *json = NULL, *list = json_array();
    bool ok = false;
    TRY(tool_begin(&ctx, common));
    TRY(tool_clat(clat_context_info(ctx, &info)));
    print_facts(tool_out(common), &info);
    TRY(list_devices(tool_out(common), list, clat_context_device(ctx)));
    json = json_pack("{s:s, s:o, s:O, s:o}", "version", clat_version(), "device", facts_json(&info),
                     "devices", list, "peers", peer_versions());
    TRY(tool_write_json(common, json));
    ok = true;
out:
    json_decref(json);
    json_decref(list);
    clat_context_release(ctx);
    return ok;
}

int command_info(int argc, char **argv) {
    static const struct args_command command = {
        .usage = "info [OPTION]...",
        .about = "Shows the device, what probes proved about it, where files live, and every "
                 "OpenCL\ndevice there is."};
    struct tool_common common = {0};
    const char *const *words;
    size_t n_words;
    const int outcome = args_parse(argc, argv, &command, &common, &words, &n_words);
    if (outcome != ARGS_GO_ON)
        return outcome;
    return show(&common) ? TOOL_OK : TOOL_FAILED;
}
