// The path of one change: an EndpointSlice of one service among 10,000 and 100,000 changes, and each stop between the source and
// the host says for how long it holds the event loop. Beside it what the same stop takes when it compares everything.
import { catalog, changes, toValue, type Item } from '../../src/core/catalog/catalog.ts'
import { createViewBuilder } from '../../src/core/view/build-view.ts'
import { Balancer } from '../../src/core/host/balance.ts'
import { desired, desiredWithin, type DesiredInput } from '../../src/core/host/desired.ts'
import { createNames, type Names } from '../../src/core/dns/names.ts'
import { drain, NO_DRAINS } from '../../src/core/host/drain.ts'
import { EXPORT_ALL, exportFacts } from '../../src/core/catalog/export-policy.ts'
import { Feed } from '../../src/core/coredns/feed.ts'
import { isPosition } from '../../src/core/replication/head.ts'
import type { HostState } from '../../src/core/host/host-state.ts'
import { EMPTY_HOST } from '../../src/core/host/normalize.ts'
import { LiveCatalog } from '../../src/core/catalog/live-catalog.ts'
import type { ClusterName, Snapshot } from '../../src/core/model/values.ts'
import { applyOps } from '../../src/core/host/model-host.ts'
import { publicKeyOf } from '../../src/core/model/identity.ts'
import { Outbox } from '../../src/core/catalog/outbox.ts'
import { plan } from '../../src/core/host/plan.ts'
import { createProtocol, type Effect, type Protocol } from '../../src/core/replication/protocol.ts'
import type { MeshView } from '../../src/core/view/view.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { newAgents, type AgentSpec } from './agents.ts'
import { row, type Row, type Step } from './row.ts'
import { basics, bytes } from './values.ts'
import { membersOf } from './world.ts'

interface Size {
  readonly services: number
  /** Of each service: a host takes 300,000 real servers of one cluster (host-limits.ts). */
  readonly endpoints: number
  readonly aimMs: number
}

const SIZES: readonly Size[] = [
  { services: 10_000, endpoints: 10, aimMs: 2 },
  { services: 100_000, endpoints: 2, aimMs: 5 }
]
const ENDPOINTS_MAX = 10
const CHANGES = 41
const NAMESPACES = 100

export const steps: readonly Step[] = SIZES.map((size) => ({
  title: `one change among ${size.services.toLocaleString('en')} services`,
  measure: () => measure(size)
}))

type Stop = 'source' | 'session' | 'replica' | 'view' | 'names' | 'feed' | 'desired' | 'plan'

function measure({ services, endpoints, aimMs }: Size): readonly Row[] {
  const path = new Path(services, endpoints)
  const times = new Map<Stop, number[]>()
  const take = <T>(stop: Stop, act: () => T): T => {
    const started = performance.now()
    const result = act()
    const list = times.get(stop) ?? []
    list.push(performance.now() - started)
    times.set(stop, list)
    return result
  }
  for (let run = 0; run < CHANGES; run++) path.change(run, take)
  const full = path.full()
  return [...times].map(([stop, list]) =>
    row({
      name: `${stop}: one slice of ${services.toLocaleString('en')} services changes`,
      value: median(list),
      unit: 'ms',
      baseline: { name: 'comparing everything', value: full[stop] },
      aim: { text: `≤ ${aimMs} ms`, holds: (value) => value <= aimMs }
    })
  )
}

class Path {
  readonly #services: number
  readonly #endpoints: number
  readonly #specs: readonly AgentSpec[]
  readonly #live = new LiveCatalog()
  readonly #outbox = new Outbox()
  #snapshot: Snapshot = { services: [], endpointSlices: [] }
  readonly #east: Protocol
  readonly #west: Protocol
  readonly #members
  readonly #views
  #names: Names | undefined
  readonly #feed = new Feed({ nowMs: 1 })
  readonly #balancer = new Balancer()
  #nowMs = 1000
  #have: HostState = EMPTY_HOST
  #view: MeshView | undefined

  constructor(services: number, endpoints: number) {
    this.#services = services
    this.#endpoints = endpoints
    const crypto = createCrypto()
    this.#specs = newAgents(2, '/tmp', true)
    const [east, west] = [this.#spec(0), this.#spec(1)]
    this.#members = membersOf(crypto, this.#specs)
    this.#views = this.#newBuilder()
    this.#east = this.#protocol(east)
    this.#west = this.#protocol(west)
    this.#east.peerUp(west.origin, this.#nowMs)
    this.#west.peerUp(east.origin, this.#nowMs)
    this.#pass(this.#west.publish(basics(west, []), this.#nowMs), 'west')
    for (let index = 0; index < services; index++) {
      this.#setService(index)
      if (index < services - 2) this.#setSlice(index, endpoints)
    }
    this.change(-1, (_, act) => act())
  }

  /** One slice loses its last endpoint, or has it back. */
  change(run: number, take: <T>(stop: Stop, act: () => T) => T): void {
    const settled = take('source', () => {
      if (run >= 0) this.#setSlice((run * 7919) % (this.#services - 2), this.#endpoints - 1)
      return this.#live.settle()
    })
    this.#snapshot = settled.snapshot
    this.#nowMs += 1000
    const effects = take('session', () => {
      this.#outbox.add(settled.changes)
      const own = run < 0 ? basics(this.#spec(0), []) : []
      return this.#east.publish([...own, ...this.#outbox.take()], this.#nowMs)
    })
    take('replica', () => this.#pass(effects, 'east'))
    if (this.#west.lag(this.#spec(0).origin) !== 0) throw new Error('the change did not reach the replica')
    const view = take('view', () => this.#build(this.#views))
    this.#view = view
    this.#names = take('names', () => this.#ask(view, this.#names))
    take('feed', () => this.#feed.update({ view, nowMs: 1 }))
    const want = take('desired', () => desiredWithin(this.#input(view), this.#balancer).host)
    take('plan', () => this.#settle(want, run))
  }

  /** Each stop once, without anything kept from before. */
  full(): Readonly<Record<Stop, number>> {
    const view = this.#view
    if (view === undefined) throw new Error('nothing was measured')
    const items: Item[] = []
    for (let index = 0; index < this.#services; index++) {
      items.push(item(serviceObject(this.#spec(0), index)))
      if (index < this.#services - 2) items.push(item(sliceObject(index, this.#endpoints)))
    }
    const copy = structuredClone({
      services: this.#snapshot.services,
      endpointSlices: this.#snapshot.endpointSlices
    })
    const copied = fullCopy(view)
    const want = desired(this.#input(copied))
    const wholeMs = once(() => this.#west.whole(this.#spec(0).origin))
    return {
      source: once(() => catalog(items)),
      session: once(() => changes(this.#snapshot, copy)),
      replica: wholeMs,
      view: once(() => this.#build(this.#newBuilder())),
      names: once(() => this.#ask(copied, undefined)),
      feed: once(() => new Feed({ nowMs: 1 }).update({ view: copied, nowMs: 1 })),
      desired: once(() => desired(this.#input(fullCopy(view)))),
      plan: once(() => this.#settle(want, 0))
    }
  }

  #newBuilder() {
    return createViewBuilder({ crypto: createCrypto(), meshId: bytes(this.#spec(0).meshId) })
  }

  #build(builder: ReturnType<typeof createViewBuilder>): MeshView {
    return builder.build({
      self: this.#spec(1).cluster as ClusterName,
      selfOrigin: this.#spec(1).origin,
      members: this.#members,
      origins: this.#west.origins(),
      records: (origin) => this.#west.records(origin).values(),
      version: (origin) => this.#west.head(origin),
      record: (origin, key) => this.#west.records(origin).get(key),
      keysSince: (origin, version) =>
        isPosition(version) ? this.#west.keysSince(origin, version) : undefined
    })
  }

  #ask(view: MeshView, previous: Names | undefined): Names {
    const names = createNames({ view, previous })
    const zone = `cluster.${this.#spec(0).cluster}`
    const answers = [
      names.answer({ name: `svc-1.ns-1.svc.${zone}`, type: 'A' }),
      names.answer({ name: `ns-1.svc.${zone}`, type: 'A' }),
      names.answer({ name: '1.0.16.172.in-addr.arpa', type: 'PTR' })
    ]
    for (const answer of answers) {
      if (answer.kind !== 'answer' || answer.rcode !== 'NOERROR') throw new Error(JSON.stringify(answer))
    }
    return names
  }

  #input(view: MeshView): DesiredInput {
    return {
      view,
      self: { origin: this.#spec(1).origin, cluster: view.self },
      local: { publicKey: 'A'.repeat(43) as never },
      health: () => 'up',
      settings: {
        device: 'bench',
        listenPort: 51820,
        mtu: 1420,
        balanceLocal: false,
        keepaliveSeconds: 0,
        scheduler: 'rr'
      }
    }
  }

  #settle(want: HostState, run: number): void {
    const drained = drain({ want, have: this.#have, drains: NO_DRAINS, nowMs: run, drainMs: 0 })
    const ops = plan(drained.want, this.#have)
    if (run >= 1 && ops.length !== 1) throw new Error(`${ops.length} ops for one change`)
    this.#have = applyOps(this.#have, ops)
  }

  #spec(index: number): AgentSpec {
    const spec = this.#specs[index]
    if (spec === undefined) throw new Error(`no agent ${index}`)
    return spec
  }

  #protocol(spec: AgentSpec): Protocol {
    const credentials = new Map(this.#specs.map(({ origin, credential }) => [origin, bytes(credential)]))
    return createProtocol({
      self: spec.origin,
      selfSeed: bytes(spec.seed),
      meshId: bytes(spec.meshId),
      crypto: createCrypto(),
      admission: {
        isAdmitted: (origin) => credentials.has(origin),
        clusterOf: () => undefined,
        admit: () => ({ kind: 'admitted' }) as never,
        credentialOf: (origin) => credentials.get(origin),
        publicKeyOf
      }
    })
  }

  /** Carries frames to and fro until none is left. */
  #pass(effects: readonly Effect[], from: 'east' | 'west'): void {
    const [east, west] = [this.#spec(0).origin, this.#spec(1).origin]
    const queue = effects.map((effect) => ({ effect, from }))
    for (let at = 0; at < queue.length; at++) {
      const next = queue[at]
      if (next === undefined) return
      const { effect, from: sender } = next
      const [own, other, origin] =
        sender === 'east' ? [this.#east, this.#west, east] : [this.#west, this.#east, west]
      if (effect.kind === 'whenSent') {
        for (const more of own.sent(effect.to)) queue.push({ effect: more, from: sender })
      } else if (effect.kind === 'send') {
        const to = sender === 'east' ? 'west' : 'east'
        for (const more of other.receive(origin, effect.frame, this.#nowMs))
          queue.push({ effect: more, from: to })
      }
    }
  }

  #setService(index: number): void {
    const object = serviceObject(this.#spec(0), index)
    this.#live.setService(nameOf(index), { item: item(object), facts: exportFacts(object, EXPORT_ALL) })
  }

  #setSlice(index: number, endpoints: number): void {
    const { namespace, name } = nameOf(index)
    const slice = { item: item(sliceObject(index, endpoints)), service: name }
    this.#live.setSlice({ namespace, name: `${name}-abcde` }, slice)
  }
}

const item = (object: unknown): Item => ({ file: 'kubernetes', reading: toValue(object) })

function nameOf(index: number): { readonly namespace: string; readonly name: string } {
  return { namespace: `ns-${index % NAMESPACES}`, name: `svc-${index}` }
}

function serviceObject(_spec: AgentSpec, index: number) {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: nameOf(index),
    // 172.16.0.0/16 has 65,536 addresses: two ports of one address are two services.
    spec: {
      clusterIP: `172.16.${(index >> 8) & 255}.${index & 255}`,
      ports: [{ name: 'http', port: 80 + (index >> 16) }]
    }
  }
}

function sliceObject(index: number, endpoints: number) {
  const { namespace, name } = nameOf(index)
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace, name: `${name}-abcde`, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080 }],
    endpoints: Array.from({ length: endpoints }, (_, pod) => {
      const number = index * ENDPOINTS_MAX + pod
      return {
        addresses: [`10.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`],
        nodeName: `node-${pod}`
      }
    })
  }
}

/** The same view, with no object of which anything is remembered. */
function fullCopy(view: MeshView): MeshView {
  const clusters = [...view.clusters].map(([name, cluster]) => {
    const services = [...cluster.services].map(
      ([key, { service, slices }]) => [key, { service, slices }] as const
    )
    return [name, { ...cluster, services: new Map(services) }] as const
  })
  return { ...view, clusters: new Map(clusters) }
}

function once(act: () => unknown): number {
  const started = performance.now()
  act()
  return performance.now() - started
}

function median(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[times.length >> 1] ?? 0
}
