/* Owns the spreading of requests over several adapters: requests that are given together are dealt
 * in equal parts, a single one goes to whoever has the fewest. */
#include "bench/driver_group.h"

#include <poll.h>

#include "base/clock.h"

/* Passes events on, and counts what is over. */
struct counter {
    const struct load_sink *sink;
    uint32_t *in_flight;
};

static void count_event(void *user, const struct load_event *event)
{
    const struct counter *counter = user;
    if (event->done && *counter->in_flight) {
        (*counter->in_flight)--;
    }
    counter->sink->event(counter->sink->user, event);
}

static uint64_t now_ns(struct driver *driver)
{
    (void)driver;
    return clock_now_ns();
}

static llcuda_status hand_over(struct driver_group *group, uint32_t member,
                               const struct load_request *requests, uint32_t count,
                               struct llcuda_error *error)
{
    struct driver *driver = &group->members[member]->driver;
    group->in_flight[member] += count;
    return count ? driver->ops->submit(driver, requests, count, error) : LLCUDA_OK;
}

static llcuda_status submit(struct driver *driver, const struct load_request *requests,
                            uint32_t count, struct llcuda_error *error)
{
    struct driver_group *group = (struct driver_group *)(void *)driver;
    llcuda_status status = LLCUDA_OK;
    if (count == 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < group->count; i++) {
            best = group->in_flight[i] < group->in_flight[best] ? i : best;
        }
        return hand_over(group, best, requests, 1, error);
    }
    for (uint32_t i = 0; !status && i < group->count; i++) {
        uint32_t begin = (uint32_t)((uint64_t)count * i / group->count);
        uint32_t end = (uint32_t)((uint64_t)count * (i + 1) / group->count);
        status = hand_over(group, i, requests + begin, end - begin, error);
    }
    return status;
}

static llcuda_status wait_events(struct driver *driver, uint64_t until_ns,
                                 const struct load_sink *sink, struct llcuda_error *error)
{
    struct driver_group *group = (struct driver_group *)(void *)driver;
    struct pollfd waits[2 * GROUP_MEMBERS_MAX];
    nfds_t count = 0;
    llcuda_status status = LLCUDA_OK;
    for (uint32_t i = 0; i < group->count; i++) {
        const struct adapter *member = group->members[i];
        waits[count++] = (struct pollfd){member->process.output, POLLIN, 0};
        if (member->out_sent < member->out.length) {
            waits[count++] = (struct pollfd){member->process.input, POLLOUT, 0};
        }
    }
    uint64_t now = clock_now_ns();
    uint64_t left = until_ns > now ? until_ns - now : 0;
    const struct timespec time = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    if (ppoll(waits, count, &time, NULL) <= 0) {
        return LLCUDA_OK;
    }
    group->turn++;
    for (uint32_t i = 0; !status && i < group->count; i++) {
        uint32_t member = (group->turn + i) % group->count;
        struct counter counter = {sink, &group->in_flight[member]};
        struct load_sink counting = {count_event, &counter};
        struct driver *one = &group->members[member]->driver;
        status = one->ops->wait(one, 0, &counting, error); /* what is there now */
    }
    return status;
}

static const struct driver_ops group_ops = {now_ns, submit, wait_events};

void driver_group_init(struct driver_group *group, struct adapter *members, uint32_t count)
{
    *group = (struct driver_group){.driver = {&group_ops}, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        group->members[i] = &members[i];
    }
}
