// The translation of the addresses of one cluster. Where another cluster of the mesh uses the same pod and service prefixes,
// a cluster has virtual prefixes in the mesh: they are the ones in its certificate and in its records. Its own hosts and
// pods know its real prefixes only. Each virtual prefix stands for a real one of the same family and length, and an address
// keeps its bits behind the prefix. Only the agents of the cluster itself know of the translation; to all others the virtual
// prefixes are prefixes like any other. docs/overlap.md describes the whole.
// Invariants
//   1. No real prefix overlaps a virtual one or another real one, so both directions are functions, and each undoes the
//      other (`translationFault`).
//   2. An address outside of all pairs is its own translation.
//   3. The order of addresses in a prefix is kept.
import {
  bytesToIp,
  cidrContains,
  cidrOverlaps,
  cidrToPrefix,
  familyOf,
  ipToBytes,
  parseCidr,
  prefixToCidr
} from './cidr.ts'
import { checkPrefixes, type Prefixes } from './prefixes.ts'
import type { Cidr, Ip } from './values.ts'

/** A virtual prefix and the real prefix of the same family and length for which it stands. */
export interface PrefixPair {
  readonly real: Cidr
  readonly virtual: Cidr
}

/** A real prefix of this cluster; `virtual` is absent while the mesh has given this cluster none for it. */
export interface RealPrefix {
  readonly kind: 'pod' | 'service'
  readonly real: Cidr
  readonly virtual?: Cidr
}

/** Translates addresses and prefixes in both directions. */
export interface Translation {
  /** False: every address is its own translation. */
  readonly isActive: boolean
  /** The pairs of pods and of services whose sides differ, sorted by their virtual prefixes. */
  readonly pods: readonly PrefixPair[]
  readonly services: readonly PrefixPair[]
  readonly toVirtual: Direction
  readonly toReal: Direction
}

/** One direction of a translation. */
export interface Direction {
  ip(ip: Ip): Ip
  /** A prefix that lies in no prefix of a pair, or contains one, stays as it is. */
  cidr(cidr: Cidr): Cidr
}

/** Returns the translation of these prefixes. Those without a virtual prefix, and those that are equal on both sides, do not count. */
export function createTranslation(prefixes: readonly RealPrefix[]): Translation {
  const pairsOf = (kind: RealPrefix['kind']): readonly PrefixPair[] =>
    prefixes
      .flatMap(({ kind: of, real, virtual }) =>
        of === kind && virtual !== undefined && virtual !== real ? [{ real, virtual }] : []
      )
      .sort((a, b) => (a.virtual < b.virtual ? -1 : 1))
  const [pods, services] = [pairsOf('pod'), pairsOf('service')]
  const all = [...pods, ...services]
  return {
    isActive: all.length > 0,
    pods,
    services,
    toVirtual: direction(all.map(({ real, virtual }) => ({ from: real, to: virtual }))),
    toReal: direction(all.map(({ real, virtual }) => ({ from: virtual, to: real })))
  }
}

/** The translation of a cluster whose prefixes in the mesh are its real ones. */
export const NO_TRANSLATION: Translation = createTranslation([])

function direction(pairs: readonly { readonly from: Cidr; readonly to: Cidr }[]): Direction {
  const targets = pairs.map(({ from, to }) => ({ from, ...cidrToPrefix(to) }))
  const targetOf = (value: Ip | Cidr) => targets.find(({ from }) => cidrContains(from, value))
  return {
    ip(ip) {
      const target = targetOf(ip)
      return target === undefined ? ip : (bytesToIp(moved(ipToBytes(ip), target)) ?? ip)
    },
    cidr(cidr) {
      const target = targetOf(cidr)
      if (target === undefined) return cidr
      const { address, length } = cidrToPrefix(cidr)
      return prefixToCidr({ address: moved(address, target), length }) ?? cidr
    }
  }
}

/** The address with its first `length` bits replaced by those of the target. */
function moved(
  bytes: Uint8Array,
  { address, length }: { readonly address: Uint8Array; readonly length: number }
): Uint8Array {
  return bytes.map((byte, index) => {
    const mask = 0xff & (0xff00 >> Math.min(8, Math.max(0, length - index * 8)))
    return ((address[index] ?? 0) & mask) | (byte & ~mask)
  })
}

/** The result of `pairPrefixes`. */
interface Pairing {
  readonly prefixes: readonly RealPrefix[]
  /** Virtual prefixes for which no real one is left: they are taken as real ones themselves. */
  readonly unpaired: readonly Cidr[]
}

/**
 * Gives each real prefix a virtual one of the same kind, family and length: the one that it had before, else an equal one,
 * else the first that is free, in the order of the lists. So a prefix that the mesh adds or changes later finds its place,
 * and the others keep theirs.
 */
export function pairPrefixes(real: readonly RealPrefix[], virtual: Prefixes): Pairing {
  const free = { pod: [...virtual.podPrefixes], service: [...virtual.servicePrefixes] }
  const take = (kind: RealPrefix['kind'], fits: (cidr: Cidr) => boolean): Cidr | undefined => {
    const at = free[kind].findIndex(fits)
    return at < 0 ? undefined : free[kind].splice(at, 1)[0]
  }
  const found = new Map<RealPrefix, Cidr>()
  const rounds: readonly ((prefix: RealPrefix, cidr: Cidr) => boolean)[] = [
    (prefix, cidr) => prefix.virtual === cidr,
    (prefix, cidr) => prefix.real === cidr,
    (prefix, cidr) => isAlike(prefix.real, cidr)
  ]
  for (const fits of rounds)
    for (const prefix of real) {
      if (found.has(prefix)) continue
      const cidr = take(prefix.kind, (one) => fits(prefix, one))
      if (cidr !== undefined) found.set(prefix, cidr)
    }
  return {
    prefixes: real.map((prefix) => {
      const { kind, real: cidr } = prefix
      const pair = found.get(prefix)
      return { kind, real: cidr, ...(pair === undefined ? {} : { virtual: pair }) }
    }),
    unpaired: [...free.pod, ...free.service]
  }
}

/**
 * Returns the reason why these prefixes cannot be translated (invariant 1); undefined when they can. The text names the
 * prefixes, so `init` and `join` show it to the operator.
 */
export function translationFault(prefixes: readonly RealPrefix[]): string | undefined {
  const realOf = (kind: RealPrefix['kind']): Cidr[] =>
    prefixes.flatMap((prefix) => (prefix.kind === kind ? [prefix.real] : []))
  const fault = checkPrefixes({ podPrefixes: realOf('pod'), servicePrefixes: realOf('service') })
  if (fault !== undefined) return `of the real prefixes, ${fault}`
  const { pods, services } = createTranslation(prefixes)
  const virtual = [...pods, ...services].map((pair) => pair.virtual)
  for (const { real, kind } of prefixes) {
    const hit = virtual.find((cidr) => cidrOverlaps(cidr, real))
    if (hit !== undefined)
      return `the real ${kind} prefix ${real} overlaps ${hit}, which stands for another prefix in the mesh`
  }
  return undefined
}

/** Returns the prefixes as the own hosts of the cluster know them. `inMesh`: those of its certificate. */
export function realPrefixes(inMesh: Prefixes, { toReal }: Pick<Translation, 'toReal'>): Prefixes {
  return {
    podPrefixes: inMesh.podPrefixes.map((cidr) => toReal.cidr(cidr)),
    servicePrefixes: inMesh.servicePrefixes.map((cidr) => toReal.cidr(cidr))
  }
}

/** Whether two prefixes have the same family and length. */
function isAlike(left: Cidr, right: Cidr): boolean {
  return familyOf(left) === familyOf(right) && lengthOf(left) === lengthOf(right)
}

/** Length of a prefix in bits. */
export function lengthOf(cidr: Cidr): number {
  return Number(cidr.slice(cidr.indexOf('/') + 1))
}

/** Writes a real prefix as text: "pod 10.1.0.0/16 10.128.0.0/16", or without the last part where it has no virtual prefix. */
export function realPrefixText({ kind, real, virtual }: RealPrefix): string {
  return [kind, real, ...(virtual === undefined ? [] : [virtual])].join(' ')
}

/** Reads that text; undefined when it is malformed. */
export function parseRealPrefix(text: string): RealPrefix | undefined {
  const [kind, ...cidrs] = text.split(' ')
  const [real, virtual] = cidrs.map(parseCidr)
  if ((kind !== 'pod' && kind !== 'service') || real?.kind !== 'cidr' || cidrs.length > 2) return undefined
  if (virtual === undefined) return { kind, real: real.cidr }
  if (virtual.kind !== 'cidr' || !isAlike(real.cidr, virtual.cidr)) return undefined
  return { kind, real: real.cidr, virtual: virtual.cidr }
}
