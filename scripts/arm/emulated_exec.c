/* Lets an emulated program start itself. qemu-user runs one program; where the kernel has no binfmt entry for Arm, that program cannot start
 * another Arm program, and jetbench starts a process per cell. Preloaded into the emulated process, this puts the emulator ($EMULATOR) in
 * front of the command line when the program to be started is $EMULATED. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>

static int is_ours(const char *program) {
    const char *ours = getenv("EMULATED");
    return ours && program && strcmp(program, ours) == 0;
}

/* The emulator, the program, and the arguments of the program. Not given back: an exec follows. */
static char **in_front(const char *program, char *const arguments[]) {
    size_t count = 0;
    while (arguments[count]) count++;
    char **all = calloc(count + 2, sizeof *all);
    if (!all) abort();
    all[0] = getenv("EMULATOR");
    all[1] = (char *)program;
    for (size_t i = 1; i < count; i++) all[i + 1] = arguments[i];
    return all;
}

int execvp(const char *program, char *const arguments[]) {
    int (*next)(const char *, char *const[]) = dlsym(RTLD_NEXT, "execvp");
    return is_ours(program) ? next(getenv("EMULATOR"), in_front(program, arguments)) : next(program, arguments);
}

int posix_spawnp(pid_t *pid, const char *program, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                 char *const arguments[], char *const environment[]) {
    int (*next)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]) =
        dlsym(RTLD_NEXT, "posix_spawnp");
    if (!is_ours(program)) return next(pid, program, actions, attributes, arguments, environment);
    return next(pid, getenv("EMULATOR"), actions, attributes, in_front(program, arguments), environment);
}
