/* A wall's clock that can be set for one service alone: it is ahead by as many seconds as the file says, from the moment it says so.
   To be loaded with LD_PRELOAD. The other clocks, and so all waiting, go on as they do when somebody sets a machine's clock. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead(void)
{
    char said[32] = "";
    int file = open(AHEAD, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, said, sizeof said - 1) < 0)
        said[0] = 0;
    if (file >= 0)
        close(file);
    return atoll(said);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed)
        now->tv_sec += ahead();
    return failed;
}

time_t time(time_t *now)
{
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now)
        *now = found.tv_sec;
    return found.tv_sec;
}
