/* A Vulkan layer that loses the device: when the file named by JETBENCH_TEST_LOSE is there at a submit, it is removed, and from then on
 * this process's device answers as one that is lost. Types and numbers are those of vulkan_core.h and vk_layer.h; only what is used here. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void (*Function)(void);
typedef Function (*GetProc)(void *, const char *);
typedef struct Base {
    int type;
    const struct Base *next;
} Base;
typedef struct Link {
    struct Link *next;
    GetProc instance_proc;
    GetProc device_proc; /* of a device's chain; of an instance's, a function for physical devices */
} Link;
typedef struct {
    int type;
    const void *next;
    int function; /* 0: `link` is one */
    Link *link;
} Chain;

enum { DEVICE_LOST = -4, FAILED = -3, OF_INSTANCE = 47, OF_DEVICE = 48 };

static GetProc next_instance_proc, next_device_proc;
static void *instance;
static volatile int lost;

static Chain *chain(const void *info, int type) {
    for (const Base *at = ((const Base *)info)->next; at; at = at->next)
        if (at->type == type && ((const Chain *)at)->function == 0) return (Chain *)at;
    return NULL;
}

static int create_instance(const void *info, const void *allocator, void **made) {
    Chain *found = chain(info, OF_INSTANCE);
    if (!found) return FAILED;
    next_instance_proc = found->link->instance_proc;
    found->link = found->link->next;
    int (*create)(const void *, const void *, void **) = (void *)next_instance_proc(NULL, "vkCreateInstance");
    int result = create(info, allocator, made);
    if (result == 0) instance = *made;
    return result;
}

static int create_device(void *card, const void *info, const void *allocator, void **made) {
    Chain *found = chain(info, OF_DEVICE);
    if (!found) return FAILED;
    GetProc proc = found->link->instance_proc;
    next_device_proc = found->link->device_proc;
    found->link = found->link->next;
    int (*create)(void *, const void *, const void *, void **) = (void *)proc(instance, "vkCreateDevice");
    return create(card, info, allocator, made);
}

static int is_lost(void) {
    const char *file = getenv("JETBENCH_TEST_LOSE");
    if (!lost && file && unlink(file) == 0) lost = 1;
    return lost;
}

static int (*next_submit)(void *, uint32_t, const void *, void *);
static int (*next_wait)(void *, uint32_t, const void *, uint32_t, uint64_t);
static int (*next_status)(void *, void *);
static int (*next_idle)(void *);

static int submit(void *queue, uint32_t n, const void *list, void *fence) {
    return is_lost() ? DEVICE_LOST : next_submit(queue, n, list, fence);
}
static int wait_for(void *device, uint32_t n, const void *fences, uint32_t all, uint64_t nanoseconds) {
    return lost ? DEVICE_LOST : next_wait(device, n, fences, all, nanoseconds);
}
static int status(void *device, void *fence) { return lost ? DEVICE_LOST : next_status(device, fence); }
static int idle(void *device) { return lost ? DEVICE_LOST : next_idle(device); }

Function vkGetDeviceProcAddr(void *device, const char *name) {
    Function next = next_device_proc(device, name);
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (Function)vkGetDeviceProcAddr;
    if (!strcmp(name, "vkQueueSubmit")) return next_submit = (void *)next, (Function)submit;
    if (!strcmp(name, "vkWaitForFences")) return next_wait = (void *)next, (Function)wait_for;
    if (!strcmp(name, "vkGetFenceStatus")) return next_status = (void *)next, (Function)status;
    if (!strcmp(name, "vkDeviceWaitIdle")) return next_idle = (void *)next, (Function)idle;
    return next;
}

Function vkGetInstanceProcAddr(void *of, const char *name) {
    if (!strcmp(name, "vkGetInstanceProcAddr")) return (Function)vkGetInstanceProcAddr;
    if (!strcmp(name, "vkCreateInstance")) return (Function)create_instance;
    if (!strcmp(name, "vkCreateDevice")) return (Function)create_device;
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (Function)vkGetDeviceProcAddr;
    return next_instance_proc ? next_instance_proc(of, name) : NULL;
}
