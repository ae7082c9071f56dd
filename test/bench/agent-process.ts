// A process that runs real agents (the daemon's control plane: transport, handshake, replication, store, view) for benches.
// Commands come over the IPC channel of agents.ts.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { Session } from 'node:inspector/promises'
import { connect, createServer } from 'node:net'
import { setPriority } from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { encode } from '@dnsquery/dns-packet'
import { Control } from '../../src/app/control/control.ts'
import { createLog } from '../../src/app/observe/log.ts'
import { createMetrics, type Metrics } from '../../src/app/observe/metrics.ts'
import { createNames, type Names } from '../../src/core/dns/names.ts'
import { keyOf, type ClusterName, type Origin } from '../../src/core/model/values.ts'
import { chooseNeighbours } from '../../src/core/replication/push/overlay.ts'
import type { MeshView } from '../../src/core/view/view.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { createDnsProcess, type DnsProcess } from '../../src/io/dns/process/client.ts'
import { createDnsServer } from '../../src/io/dns/server.ts'
import type { Store } from '../../src/io/store/store.ts'
import { eventually } from '../eventually.ts'
import { sharedMs, type AgentSpec } from './agents.ts'
import { LightMembers, type LightFacts } from './light-members.ts'
import { basics, ENDPOINTS_PER_SLICE, marker, MARKER, pair } from './values.ts'
import { identityOf, openStoreOf, type World } from './world.ts'

export interface Commands {
  /** Starts agents that listen on `address`; answers where each is reached. */
  start: { readonly agents: readonly AgentSpec[]; readonly address: string }
  /** Connects each agent as the overlay chooses. */
  connect: { readonly members: readonly Member[] }
  /** Connects each agent to these and nobody else. */
  dial: { readonly members: readonly Member[] }
  publish: { readonly agent: number; readonly change: number }
  /** A catalogue of so many endpoints, 100 to a slice, a service each. */
  catalogue: { readonly agent: number; readonly endpoints: number }
  /** Who has seen which change when; forgets what it tells. */
  sightings: Record<string, never>
  facts: Record<string, never>
  /** Waits until an agent's view holds so many services of a cluster; answers when that was. */
  await: {
    readonly agent: number
    readonly cluster: string
    readonly services: number
    readonly timeoutMs: number
  }
  /** Bytes of frames received, once they are so many. */
  awaitBytes: { readonly bytes: number; readonly timeoutMs: number }
  /** Asks a DNS responder on this agent's view until it answers; answers when that was. */
  dns: { readonly agent: number; readonly name: string }
  /** Two DNS responders on this agent's view: one in this thread, one in a process of its own as meshd has it. */
  responders: { readonly agent: number; readonly control: string }
  /** A plain TCP server that sends so many bytes; answers its port. */
  serveBytes: { readonly address: string; readonly bytes: number }
  /** Reads from it to the end; answers milliseconds. */
  fetchBytes: { readonly address: string; readonly port: number }
  /** Begins a CPU profile; the second time, writes it. */
  profile: { readonly file: string }
  /** How many whole clusters an agent's view has, and how many of them with a change told. */
  meshFacts: { readonly agent: number }
  /** This process comes before others where cores are short. */
  first: Record<string, never>
  /** Makes light members of these, all of which know the file's world; `dials`: the one that they know how to reach. */
  light: { readonly specs: readonly AgentSpec[]; readonly world: string; readonly dials: AgentSpec }
  /** They dial; each of them that has a change to tell has one that it has not told yet. */
  lightDial: { readonly member: Member; readonly changed: readonly Origin[] }
  lightFacts: Record<string, never>
  stop: Record<string, never>
}

export interface Answers {
  start: { readonly members: readonly Member[]; readonly openMs: number; readonly startMs: number }
  connect: null
  dial: null
  /** When it was handed to the agent. */
  publish: number
  catalogue: { readonly records: number }
  sightings: readonly (readonly [change: number, seenMs: number])[]
  facts: Facts
  await: number
  awaitBytes: number
  dns: number
  responders: { readonly threadPort: number; readonly processPort: number; readonly pid: number }
  serveBytes: number
  fetchBytes: number
  profile: null
  meshFacts: { readonly clusters: number; readonly changed: number; readonly atMs: number }
  first: null
  light: null
  lightDial: null
  lightFacts: LightFacts
  stop: null
}

export interface Member {
  readonly origin: Origin
  readonly addresses: readonly string[]
}

export interface Facts {
  readonly bytesIn: number
  readonly bytesOut: number
  readonly framesOut: number
  readonly rssBytes: number
  readonly cpuMs: number
  /** Since the last time it was asked. */
  readonly eventLoopMaxMs: number
  readonly eventLoopP99Ms: number
  /** The most since the process began. */
  readonly rssMaxBytes: number
  readonly refused: Readonly<Record<string, number>>
  readonly neighbours: readonly number[]
}

export interface Command<K extends keyof Commands> {
  readonly id: number
  readonly kind: K
  readonly options: Commands[K]
}

interface Running {
  readonly spec: AgentSpec
  readonly control: Control
  readonly store: Store
  /** A pass over the view is due; as the daemon does, one for all changes of a turn. */
  due: boolean
}

// Where we may set it: what else this machine runs shall not count.
const FIRST_NICE = -10
const crypto = createCrypto()
const log = createLog({ 'log-level': 'error', 'log-format': 'json' })
const metrics: Metrics = createMetrics()
const delay = monitorEventLoopDelay({ resolution: 10 })
delay.enable()
const agents: Running[] = []
let responder: DnsProcess | undefined
let light: LightMembers | undefined
let profiler: Session | undefined
let sightings: [number, number][] = []
/** Of each agent, the last change of each cluster that it has seen. */
const seen = new Map<Running, Map<ClusterName, number>>()

type Handlers = { readonly [K in keyof Commands]: (options: Commands[K]) => Answers[K] | Promise<Answers[K]> }

const handlers: Handlers = {
  async start({ agents: specs, address }) {
    const beganMs = sharedMs()
    let openMs = 0
    for (const spec of specs) {
      const store = await openStoreOf(spec)
      openMs = sharedMs() - beganMs
      const running: Running = {
        spec,
        store,
        control: controlOf(spec, store, address, () => look(running)),
        due: false
      }
      agents.push(running)
      seen.set(running, new Map())
      await running.control.start()
    }
    const startMs = sharedMs() - beganMs
    const members = agents.map(({ control }) => ({
      origin: control.origin,
      addresses: control.transport.listenAddresses()
    }))
    for (const { control, spec } of agents) {
      if (control.own.keys().length === 0)
        await control.publish(basics(spec, control.transport.listenAddresses()))
    }
    return { members, openMs, startMs }
  },

  connect({ members }) {
    const addresses = new Map(members.map((member) => [member.origin, member.addresses]))
    for (const { control } of agents) {
      const others = members
        .filter(({ origin }) => origin !== control.origin)
        .map(({ origin }) => ({ origin, dialable: true, rttMs: undefined }))
      const chosen = chooseNeighbours({ self: control.origin, dialable: true, members: others, round: 0 })
      control.transport.setTargets(
        chosen.map((origin) => ({ origin, addresses: addresses.get(origin) ?? [] }))
      )
    }
    return null
  },

  dial({ members }) {
    for (const { control } of agents) control.transport.setTargets(members)
    return null
  },

  async publish({ agent, change }) {
    const { control, spec } = agentAt(agent)
    const value = marker(spec, change)
    const atMs = sharedMs()
    await control.publish([{ key: keyOf(value), value }])
    return atMs
  },

  async catalogue({ agent, endpoints }) {
    const { control, spec } = agentAt(agent)
    const count = Math.ceil(endpoints / ENDPOINTS_PER_SLICE)
    let records = 0
    for (let from = 0; from < count; from += 500) {
      const batch = Array.from({ length: Math.min(500, count - from) }, (_, at) =>
        pair(spec, from + at)
      ).flat()
      records += batch.length
      await control.publish(batch.map((value) => ({ key: keyOf(value), value })))
    }
    return { records }
  },

  sightings() {
    const told = sightings
    sightings = []
    return told
  },

  async facts() {
    globalThis.gc?.()
    const { user, system } = process.cpuUsage()
    const [eventLoopMaxMs, eventLoopP99Ms] = [delay.max / 1e6, delay.percentile(99) / 1e6]
    delay.reset()
    const refused: Record<string, number> = {}
    for (const { control } of agents) {
      for (const [reason, count] of Object.entries(control.refusals.counts()))
        refused[reason] = (refused[reason] ?? 0) + count
    }
    return {
      bytesIn: await counted(metrics.frameBytes, 'in'),
      bytesOut: await counted(metrics.frameBytes, 'out'),
      framesOut: await counted(metrics.frames, 'out'),
      rssBytes: process.memoryUsage.rss(),
      cpuMs: (user + system) / 1000,
      eventLoopMaxMs,
      eventLoopP99Ms,
      rssMaxBytes: process.resourceUsage().maxRSS * 1024,
      refused,
      neighbours: agents.map(({ control }) => control.neighbours().length)
    }
  },

  async await({ agent, cluster, services, timeoutMs }) {
    const { control } = agentAt(agent)
    await eventually(() => {
      const found = control.view().clusters.get(cluster as ClusterName)
      return found?.complete === true && found.services.size >= services
    }, timeoutMs)
    return sharedMs()
  },

  async awaitBytes({ bytes, timeoutMs }) {
    let received = 0
    await eventually(async () => {
      received = await counted(metrics.frameBytes, 'in')
      return received >= bytes
    }, timeoutMs)
    return received
  },

  async dns({ agent, name }) {
    const { control } = agentAt(agent)
    const server = createDnsServer({
      listen: [{ address: '127.0.0.1', port: 0 }],
      names: () => createNames({ view: control.view(), serial: 1 })
    })
    await server.start()
    const [listening] = server.listening
    const socket = createSocket('udp4')
    const question = encode({ type: 'query', id: 1, questions: [{ name, type: 'A', class: 'IN' }] })
    const answered = once(socket, 'message')
    socket.send(question, listening?.port ?? 0, '127.0.0.1')
    const [reply] = (await answered) as [Buffer]
    const atMs = sharedMs()
    socket.close()
    await server.stop()
    if (reply.readUInt16BE(6) === 0) throw new Error(`DNS has no answer for ${name}`)
    return atMs
  },

  async responders({ agent, control: path }) {
    const running = agentAt(agent)
    const { control } = running
    let last: { readonly view: MeshView; readonly names: Names } | undefined
    const names = (): Names => {
      const view = control.view()
      if (last?.view !== view) last = { view, names: createNames({ view, previous: last?.names }) }
      return last.names
    }
    const server = createDnsServer({ listen: [{ address: '127.0.0.1', port: 0 }], names })
    await server.start()
    responder = createDnsProcess({
      control: path,
      version: 'bench',
      listen: [{ address: '127.0.0.1', port: 0 }],
      settings: { upstreams: [], allow: [], outliveSeconds: 0 },
      state: () => ({
        view: control.view(),
        withdrawn: new Set(),
        serverAddresses: [],
        isWhole: control.isWhole
      })
    })
    await responder.start()
    return {
      threadPort: server.listening[0]?.port ?? 0,
      processPort: responder.listening[0]?.port ?? 0,
      pid: responder.pid ?? 0
    }
  },

  async serveBytes({ address, bytes }) {
    const chunk = Buffer.alloc(64 * 1024, 7)
    const server = createServer((socket) => {
      let left = bytes
      const send = () => {
        while (left > 0) {
          const part = left < chunk.length ? chunk.subarray(0, left) : chunk
          left -= part.length
          if (!socket.write(part)) return
        }
        socket.end()
      }
      socket.on('drain', send)
      socket.on('error', () => socket.destroy())
      send()
    })
    server.listen(0, address)
    await once(server, 'listening')
    const bound = server.address()
    if (bound === null || typeof bound === 'string') throw new Error('not a TCP server')
    server.unref()
    return bound.port
  },

  async fetchBytes({ address, port }) {
    const beganMs = sharedMs()
    const socket = connect(port, address)
    socket.resume()
    await once(socket, 'close')
    return sharedMs() - beganMs
  },

  async profile({ file }) {
    if (profiler === undefined) {
      profiler = new Session()
      profiler.connect()
      await profiler.post('Profiler.enable')
      await profiler.post('Profiler.start')
      return null
    }
    const { profile } = await profiler.post('Profiler.stop')
    writeFileSync(file, JSON.stringify(profile))
    profiler.disconnect()
    profiler = undefined
    return null
  },

  meshFacts({ agent }) {
    const whole = [...agentAt(agent).control.view().clusters.values()].filter(({ complete }) => complete)
    const told = whole.filter(({ services }) => (services.get(MARKER)?.service.affinitySeconds ?? 0) > 0)
    return { clusters: whole.length, changed: told.length, atMs: sharedMs() }
  },

  async light({ specs, world, dials }) {
    light = new LightMembers({ specs, world: JSON.parse(readFileSync(world, 'utf8')) as World, dials })
    await light.start()
    return null
  },

  first() {
    try {
      setPriority(FIRST_NICE)
    } catch {
      return null // not root
    }
    return null
  },

  lightDial({ member, changed }) {
    light?.dial(member, changed)
    return null
  },

  lightFacts: () => light?.facts() ?? { members: 0, connected: 0, whole: 0, wholeMs: 0, refused: {} },

  async stop() {
    await light?.stop()
    for (const { control, store } of agents.splice(0)) {
      await control.stop()
      await store.close()
    }
    seen.clear()
    return null
  }
}

process.on('message', (command: Command<keyof Commands>) => {
  run(command).then(
    (answer) => process.send?.({ id: command.id, answer }),
    (error: unknown) =>
      process.send?.({ id: command.id, error: error instanceof Error ? (error.stack ?? '') : String(error) })
  )
})
process.on('disconnect', () => process.exit())

async function run<K extends keyof Commands>({ kind, options }: Command<K>): Promise<Answers[K]> {
  return handlers[kind](options)
}

function controlOf(spec: AgentSpec, store: Store, address: string, onChange: () => void): Control {
  return new Control({
    crypto,
    store,
    log,
    metrics,
    ...identityOf(crypto, spec),
    listen: [`/ip4/${address}/tcp/0`],
    software: 'bench',
    onChange,
    onHandshake: () => undefined,
    onLeftOut: () => undefined
  })
}

/** As the daemon's session does: one look at the view for all changes of a turn of the event loop. */
function look(running: Running): void {
  if (running.due) return
  running.due = true
  setImmediate(() => {
    running.due = false
    responder?.update()
    const known = seen.get(running)
    if (known === undefined) return
    for (const [name, cluster] of running.control.view().clusters) {
      const change = cluster.services.get(MARKER)?.service.affinitySeconds
      if (change === undefined || known.get(name) === change) continue
      known.set(name, change)
      sightings.push([change, sharedMs()])
    }
  })
}

function agentAt(index: number): Running {
  const agent = agents[index]
  if (agent === undefined) throw new Error(`no agent ${index} here`)
  return agent
}

async function counted(counter: Metrics['frames'], direction: 'in' | 'out'): Promise<number> {
  const { values } = await counter.get()
  return values.find(({ labels }) => labels['direction'] === direction)?.value ?? 0
}
