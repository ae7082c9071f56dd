// What this process reads from the kernel itself, in its own network namespace. Each reading resolves to undefined where
// the kernel gives no whole answer, or where no netlink socket can be opened (netlink.ts): the caller then runs the tool,
// whose errors have words and a fix.
import { readFamily, readKernelDevice } from '../tunnel/wireguard/kernel-device.ts'
import { readProcessDevice } from '../tunnel/wireguard/process-device.ts'
import type { WgDump } from '../tunnel/wireguard/wg-dump.ts'
import type { KernelRoute, Link, LinkWithAddresses, Rule } from '../tools/ip-json.ts'
import { readCounters } from './counters.ts'
import { NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE } from './netlink.ts'
import { openQuestions } from './questions.ts'
import { createRtnetlink, type Rtnetlink } from './rtnetlink.ts'

/** Readings without a tool. Each is undefined where the tool must be asked. */
export interface KernelReads {
  /** `'none'`: this host has no device of the name. */
  link(name: string): Promise<Link | 'none' | undefined>
  links(): Promise<readonly LinkWithAddresses[] | undefined>
  routes(question: Parameters<Rtnetlink['routes']>[0]): Promise<readonly KernelRoute[] | undefined>
  rules(family: 4 | 6): Promise<readonly Rule[] | undefined>
  /** The WireGuard device of this name in the kernel. */
  wireguard(device: string): Promise<WgDump | undefined>
  /** The device of the wireguard-go that listens on the socket. */
  wireguardGo(path: string): Promise<WgDump | undefined>
  /** The packets of each named counter of this nftables table of the family inet; empty where there is no such table. */
  counters(table: string): Promise<ReadonlyMap<string, number> | undefined>
}

/**
 * Returns the readings of the namespace in which this process is, the same for each caller. Sockets are opened at the
 * first reading, and stay open as long as the process: netlink has no connection that could end.
 */
export const openKernelReads = once((): KernelReads => {
  const route = once(() => {
    const questions = openQuestions(NETLINK_ROUTE)
    return questions && createRtnetlink(questions)
  })
  const generic = once(() => openQuestions(NETLINK_GENERIC))
  const netfilter = once(() => openQuestions(NETLINK_NETFILTER))
  /** The number of the family; asked for again until the kernel has loaded its module. */
  let family: number | undefined
  const read = <T>(what: (rtnetlink: Rtnetlink) => Promise<T>): Promise<T | undefined> => {
    const rtnetlink = route()
    return rtnetlink === undefined ? Promise.resolve(undefined) : orTool(what(rtnetlink))
  }
  return {
    link: (name) => read(async (rtnetlink) => (await rtnetlink.link(name)) ?? 'none'),
    links: () => read((rtnetlink) => rtnetlink.links()),
    routes: (question) => read((rtnetlink) => rtnetlink.routes(question)),
    rules: (wanted) => read((rtnetlink) => rtnetlink.rules(wanted)),
    async wireguard(device) {
      const questions = generic()
      if (questions === undefined) return undefined
      return orTool(
        (async () => readKernelDevice(questions, (family ??= await readFamily(questions)), device))()
      )
    },
    wireguardGo: (path) => orTool(readProcessDevice(path)),
    async counters(table) {
      const questions = netfilter()
      return questions && orTool(readCounters(questions, table))
    }
  }
})

function orTool<T>(reading: Promise<T>): Promise<T | undefined> {
  return reading.catch(() => undefined)
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => (made ??= { value: make() }).value
}
