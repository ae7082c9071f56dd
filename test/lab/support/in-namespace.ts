// Runs a function with this process's main thread in another network namespace: a socket belongs to the namespace in which it is opened, and
// stays usable. For edges that talk to the kernel without a tool.
import { closeSync, openSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Namespace } from './netns.ts'

const CLONE_NEWNET = 0x4000_0000

/** `work` must be synchronous. Errors: of `work`; where the namespace is not there. */
export function inNamespace<T>(namespace: Pick<Namespace, 'name'>, work: () => T): T {
  const koffi = createRequire(import.meta.url)('koffi') as {
    load(path: null): { func(declaration: string): (fd: number, kind: number) => number }
  }
  const setns = koffi.load(null).func('int setns(int, int)')
  const enter = (fd: number): void => {
    if (setns(fd, CLONE_NEWNET) !== 0) throw new Error(`cannot enter the network namespace ${namespace.name}`)
  }
  const home = openSync('/proc/self/ns/net', 'r')
  const there = openSync(`/run/netns/${namespace.name}`, 'r')
  try {
    enter(there)
    try {
      return work()
    } finally {
      enter(home)
    }
  } finally {
    closeSync(there)
    closeSync(home)
  }
}
