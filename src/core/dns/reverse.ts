// Addresses back to names: in-addr.arpa and ip6.arpa (RFC 1035 3.5, RFC 3596 2.5) inside the mesh's prefixes.
import { bytesToIp, cidrToPrefix } from '../model/cidr.ts'
import type { Cidr, Ip } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import type { DomainName } from './record.ts'
import { AddressIndex } from './address-index.ts'
import { endpointLabel, isPublished } from './service-names.ts'
import { serviceDomain } from './zone.ts'

/** Address bytes and how many of their bits a name or prefix fixes. */
export interface Prefix {
  readonly bytes: readonly number[]
  readonly bits: number
}

/** A name below in-addr.arpa or ip6.arpa: the prefix that its last labels stand for, and how many labels make no address. */
interface ReverseName extends Prefix {
  readonly rest: number
}

/** Of a whole address `bits` is 32 or 128 and `rest` 0. Undefined for any other name. */
export function parseReverse(labels: readonly string[]): ReverseName | undefined {
  if (labels.at(-1) !== 'arpa') return undefined
  const family = labels.at(-2)
  if (family !== 'in-addr' && family !== 'ip6') return undefined
  const reversed = labels.slice(0, -2).toReversed()
  const [isDigit, count] = family === 'in-addr' ? [isByte, 4] : [isNibble, 32]
  const end = reversed.findIndex((label, index) => index === count || !isDigit(label))
  const digits = end === -1 ? reversed : reversed.slice(0, end)
  const rest = reversed.length - digits.length
  if (family === 'in-addr') {
    return { bytes: [...digits.map(Number), 0, 0, 0, 0].slice(0, 4), bits: digits.length * 8, rest }
  }
  const nibbles = digits.join('').padEnd(32, '0')
  const bytes = Array.from({ length: 16 }, (_, i) => parseInt(nibbles.slice(2 * i, 2 * i + 2), 16))
  return { bytes, bits: digits.length * 4, rest }
}

/** The part of `outer` that is one reverse zone with `inner` in it: of a prefix that ends inside a label, the whole label. */
export function zoneWithin(outer: Prefix, inner: Prefix): Prefix {
  const step = outer.bytes.length === 4 ? 8 : 4
  return { bytes: inner.bytes, bits: Math.max(step, Math.ceil(outer.bits / step) * step) }
}

export function parsePrefix(cidr: Cidr): Prefix {
  const { address, length } = cidrToPrefix(cidr)
  return { bytes: [...address], bits: length }
}

export function contains(outer: Prefix, inner: Prefix): boolean {
  if (outer.bytes.length !== inner.bytes.length || inner.bits < outer.bits) return false
  for (let bit = 0; bit < outer.bits; bit += 8) {
    const mask = 0xff & (0xff << Math.max(0, 8 - (outer.bits - bit)))
    if (((outer.bytes[bit / 8] ?? 0) & mask) !== ((inner.bytes[bit / 8] ?? 0) & mask)) return false
  }
  return true
}

/** The reverse zone that a prefix lies in, widened to whole labels: "1.10.in-addr.arpa" for 10.1.0.0/16 and 10.1.0.0/20. */
export function reverseZone({ bytes, bits }: Prefix): DomainName {
  if (bytes.length === 4) return [...bytes.slice(0, bits >> 3).toReversed(), 'in-addr.arpa'].join('.')
  const nibbles = bytes.flatMap((byte) => [byte >> 4, byte & 15]).slice(0, bits >> 2)
  return [...nibbles.map((nibble) => nibble.toString(16)).toReversed(), 'ip6.arpa'].join('.')
}

export function addressOf({ bytes }: Prefix): Ip | undefined {
  return bytesToIp(Uint8Array.from(bytes))
}

export interface ReverseLookup {
  /** Service IP → the service's name; else published endpoint → its name in each of its services. */
  lookup(cluster: ClusterView, address: Ip): readonly DomainName[]
}

/**
 * Which services an address of one cluster belongs to. Follows the cluster's view by comparing service objects, so that one
 * changed service of 10,000 re-indexes one; correct, only slower, when asked about views in any order.
 */
export class ReverseIndex implements ReverseLookup {
  private services: ReadonlyMap<string, ServiceView> = new Map()
  private readonly table = new ReverseTable()

  lookup(cluster: ClusterView, address: Ip): readonly DomainName[] {
    this.follow(cluster.services)
    return this.table.lookup(cluster, address)
  }

  private follow(services: ReadonlyMap<string, ServiceView>): void {
    if (services === this.services) return
    for (const { key, before, after } of changesBetween(this.services, services)) {
      if (before !== undefined) this.table.forget(before)
      if (after !== undefined) this.table.learn(key, after)
    }
    this.services = services
    while (this.table.isStale) this.table.renew(services, Infinity)
  }
}

/** What is told of each service when it changes; a service that was forgotten may still be a candidate, and is then looked at. */
export class ReverseTable implements ReverseLookup {
  private index = new AddressIndex()
  private ids = new Map<string, number>()
  private keys: string[] = []
  /** Addresses of the services as they are; the index holds those that they had, too. */
  private live = 0
  /** Takes the place of this one when it knows all services. */
  private next: { readonly table: ReverseTable; readonly rest: Iterator<[string, ServiceView]> } | undefined

  get isStale(): boolean {
    return this.next !== undefined || this.index.size > 2 * this.live + STALE_SLACK
  }

  lookup(cluster: ClusterView, address: Ip): readonly DomainName[] {
    const services: DomainName[] = []
    const names = new Set<DomainName>()
    for (const id of this.index.find(address)) {
      const view = cluster.services.get(this.keys[id] ?? '')
      if (view === undefined) continue
      const domain = serviceDomain(cluster.name, view.service)
      if (view.service.clusterIps.includes(address)) services.push(domain)
      for (const endpoint of publishedEndpoints(view)) {
        if (endpoint.addresses.includes(address)) names.add(`${endpointLabel(endpoint, address)}.${domain}`)
      }
    }
    // The same answer, in whatever order services came: of two services with one address the first in order of name.
    const [first] = services.sort()
    return first === undefined ? [...names].sort() : [first]
  }

  learn(key: string, view: ServiceView): void {
    let id = this.ids.get(key)
    if (id === undefined) {
      id = this.keys.push(key) - 1
      this.ids.set(key, id)
    }
    for (const address of addresses(view)) {
      this.index.add(address, id)
      this.live++
    }
    this.next?.table.learn(key, view)
  }

  forget(view: ServiceView): void {
    this.live -= count(addresses(view))
    this.next?.table.forget(view)
  }

  /** A step towards a table without what was forgotten: at most this many services are read. Call while it is stale. */
  renew(services: ReadonlyMap<string, ServiceView>, steps: number): void {
    this.next ??= { table: new ReverseTable(), rest: services.entries() }
    const { table, rest } = this.next
    for (let step = 0; step < steps; step++) {
      const { done, value } = rest.next()
      if (done === true) {
        this.index = table.index
        this.ids = table.ids
        this.keys = table.keys
        this.next = undefined
        return
      }
      const [key, view] = value
      table.learn(key, view)
    }
  }
}

// Stale entries below it are not worth a pass over all services.
const STALE_SLACK = 1024

function count(items: Iterable<unknown>): number {
  let total = 0
  for (const _ of items) total++
  return total
}

function* addresses(view: ServiceView): Iterable<Ip> {
  yield* view.service.clusterIps
  for (const endpoint of publishedEndpoints(view)) yield* endpoint.addresses
}

function* publishedEndpoints(view: ServiceView) {
  for (const slice of view.slices) {
    for (const endpoint of slice.endpoints) {
      if (isPublished(view, endpoint)) yield endpoint
    }
  }
}

function isByte(label: string): boolean {
  return /^(0|[1-9]\d{0,2})$/.test(label) && Number(label) < 256
}

function isNibble(label: string): boolean {
  return /^[0-9a-f]$/.test(label)
}
