// When the next task may start: while the processors have idle time. Tests that wait leave room for others, and tests that compute do not get so much
// company that their deadlines are missed.
import { availableParallelism, cpus } from 'node:os'
import type { Task } from './tasks.ts'

// More of them would not fit into the memory of a small machine: some start five agents, some a Kubernetes API server.
const MOST = 10
// So many run in any case: the processors of a shared machine may never be idle.
const LEAST = availableParallelism() + 1
/** Share of processor time in use from which on nothing is started. */
const BUSY = 0.85

/** The next task that may start now, of those that wait, in their order; undefined = none. */
export function nextTask(waiting: readonly Task[], running: readonly Task[], busy: number): Task | undefined {
  if (running.length >= MOST || (running.length >= LEAST && busy > BUSY)) return undefined
  const taken = new Set(running.map(({ alone }) => alone))
  return waiting.find(({ alone }) => alone === undefined || !taken.has(alone))
}

/** Share of the processors' time that was used since the last call (0…1). Niceness does not matter. */
export function processorMeter(): () => number {
  let before = total()
  return () => {
    const now = total()
    const all = now.all - before.all
    const busy = all <= 0 ? 1 : 1 - (now.idle - before.idle) / all
    before = now
    return busy
  }
}

function total(): { readonly all: number; readonly idle: number } {
  let [all, idle] = [0, 0]
  for (const { times } of cpus()) {
    idle += times.idle
    all += times.user + times.nice + times.sys + times.idle + times.irq
  }
  return { all, idle }
}
