// A seeded storm over a mesh: what happens is drawn from the seed, so a failure repeats exactly. At the end the faults stop, and
// all heads and hashes must agree within SETTLE_MS of virtual time.
import { keyOf, type EndpointSliceValue, type Ip, type ServiceValue } from '../../src/core/model/values.ts'
import { createFakeCrypto } from './fake-crypto.ts'
import { Mesh, STORMY, type Agent, type MeshOptions } from './mesh.ts'
import { Random } from './random.ts'
import { wanLatencyMs } from './regions.ts'
import { NEXT_KIND_PREFIX, VERSIONS, type Version } from './versions.ts'

export const FAULTS = [
  'loss', // frames vanish, come twice, late, or overtake each other
  'link', // connections break and come back
  'flap', // the mesh falls in two, and together, several times in seconds; one way or both
  'oneway', // frames of one direction vanish
  'undialable', // two thirds of the agents can only dial out
  'halfopen', // an agent dies and no connection is closed
  'slow', // a reader takes 2 bytes a millisecond
  'stall', // a machine is paused for up to 20 s
  'kill', // kill -9, in the middle of writing and of taking a snapshot, too
  'disk', // a restart with a wiped disk, or with an old backup
  'clock', // the clock jumps by up to a year, either way
  'floor', // an agent is away while more is deleted than anyone remembers
  'schema', // agents are upgraded and set back among three versions of frames, heads and values
  'twin', // two agents write with one key
  'claims' // an agent claims heads that it does not hold, and that nobody ever wrote
] as const

export type Fault = (typeof FAULTS)[number]

export interface StormOptions {
  readonly seed: number
  readonly agents: number
  readonly faults: ReadonlySet<Fault>
  /** `tree`: the overlay of a large mesh, with pushes along trees; the others are direct. */
  readonly shape: 'full' | 'line' | 'tree'
  readonly steps?: number
  /** Of which version each agent is when the storm begins. */
  readonly versionOf?: (agent: number) => Version
}

export interface StormResult {
  readonly virtualMs: number
  readonly settledMs: number
  /** Of Mesh: whether the faults have bitten. */
  readonly pastFloor: number
  readonly unknownKinds: number
}

/** Throws what was violated. */
export function storm(options: StormOptions): StormResult {
  const { seed, agents, faults, shape, steps = 60, versionOf } = options
  const mesh = new Mesh(meshOptions(options))
  const { random } = mesh
  if (faults.has('loss')) mesh.faults = STORMY
  if (faults.has('clock'))
    for (const agent of mesh.agents) agent.clockMs = (random.below(3) - 1) * random.below(YEAR_MS)
  for (const agent of mesh.agents) {
    agent.version = versionOf?.(agent.index) ?? (faults.has('schema') ? random.pick(VERSIONS) : 'this')
    mesh.publish(agent, [bootChange(agent.boots)])
  }
  const actions = actionsOf(faults)
  for (let step = 0; step < steps; step++) {
    random.pick(actions)(
      mesh,
      random.pick(mesh.agents.slice(0, agents)),
      random.pick(mesh.agents.slice(0, agents))
    )
    mesh.run(random.below(shape === 'tree' ? 300 : 700))
  }
  mesh.calm()
  mesh.run(Math.max(0, ...mesh.agents.map(({ stalledUntilMs }) => stalledUntilMs - mesh.nowMs)))
  for (const twin of mesh.agents.slice(agents)) mesh.kill(twin)
  for (const agent of mesh.agents.slice(0, agents)) {
    if (agent.silent) mesh.kill(agent)
    mesh.start(agent)
    mesh.publish(agent, [bootChange(1000 + agent.boots + (seed % 7))])
  }
  if (shape !== 'tree') mesh.connectAll()
  const settledMs = mesh.settle(SETTLE_MS)
  mesh.run(2000) // until pacing has let everything through
  mesh.settle(SETTLE_MS)
  mesh.checkWanted()
  if ([...faults].every((fault) => HEARD.has(fault))) {
    mesh.run(ALIVE_MS)
    mesh.checkAlive()
  }
  return {
    virtualMs: mesh.nowMs,
    settledMs,
    pastFloor: mesh.pastFloor,
    unknownKinds: mesh.unknownKinds
  }
}

const SETTLE_MS = 120_000
// Faults under which what an agent says of its life comes through, or dies with a connection that is then made anew. After others
// (frames lost on a connection that stays) a false death can stay, where no neighbour shares it.
const HEARD: ReadonlySet<Fault> = new Set(['link', 'undialable', 'slow', 'stall', 'clock', 'kill'])
// To suspect who is gone, and to hear that it is back.
const ALIVE_MS = 10_000
const YEAR_MS = 365 * 86_400_000
// Small enough that parts, pacing, credit, floors and refused staged deltas all happen.
const SMALL = {
  partBytes: 120,
  tombstonesMax: 3,
  pullsMax: 2,
  windowsBytesMax: 600,
  unsentBytesMax: 250,
  batchesBurst: 2,
  batchesPerSecond: 2
}
// Above this many agents signatures are not worth their time.
const ED25519_AGENTS_MAX = 8

function meshOptions({ seed, agents, faults, shape }: StormOptions): MeshOptions {
  const undialable = faults.has('undialable')
  return {
    seed,
    agents,
    limits: { ...SMALL, ...(shape === 'tree' ? { directMax: 3, partBytes: 600, pullsMax: 8 } : {}) },
    ...(agents > ED25519_AGENTS_MAX ? { crypto: createFakeCrypto() } : {}),
    ...(shape === 'line' ? { linked: (left: number, right: number) => Math.abs(left - right) === 1 } : {}),
    ...(shape === 'tree' ? { overlay: true, latencyMs: wanLatencyMs } : {}),
    ...(undialable ? { dialable: (agent: number) => agent % 3 === 0 } : {})
  }
}

type Action = (mesh: Mesh, agent: Agent, other: Agent) => void

function actionsOf(faults: ReadonlySet<Fault>): readonly Action[] {
  const table: readonly (readonly [Fault | 'always', number, Action])[] = [
    ['always', 9, publish],
    ['always', 1, (mesh, agent) => startAgain(mesh, agent)],
    ['link', 2, (mesh, agent, other) => mesh.disconnect(agent, other)],
    ['link', 3, (mesh, agent, other) => mesh.connect(agent, other)],
    ['oneway', 2, (mesh, agent, other) => mesh.cut(agent, other)],
    ['oneway', 1, (mesh) => mesh.heal()],
    ['flap', 1, (mesh) => fallApart(mesh)],
    ['halfopen', 1, (mesh, agent) => mesh.die(agent)],
    ['slow', 1, (_mesh, agent) => void (agent.bytesPerMs = agent.bytesPerMs < Infinity ? Infinity : 2)],
    ['stall', 1, (mesh, agent) => void (agent.stalledUntilMs = mesh.nowMs + mesh.random.below(20_000))],
    ['kill', 2, (mesh, agent) => mesh.kill(agent)],
    ['kill', 2, (mesh, agent) => startAgain(mesh, agent)],
    ['kill', 2, doom],
    ['disk', 1, (mesh, agent) => mesh.backUp(agent)],
    ['disk', 1, (mesh, agent) => restartWithout(mesh, agent)],
    ['clock', 1, (mesh, agent) => void (agent.clockMs += (mesh.random.below(3) - 1) * YEAR_MS)],
    ['floor', 1, outlast],
    ['schema', 3, changeVersion],
    ['twin', 1, raiseTwin],
    ['claims', 3, (mesh, agent, other) => mesh.claim(agent, other)]
  ]
  return table.flatMap(([fault, weight, action]) =>
    fault === 'always' || faults.has(fault) ? Array.from({ length: weight }, () => action) : []
  )
}

function publish(mesh: Mesh, agent: Agent): void {
  const { random } = mesh
  mesh.publish(agent, randomChanges(random), random.chance(0.05) ? random.below(3) : undefined)
}

function startAgain(mesh: Mesh, agent: Agent): void {
  if (agent.silent) mesh.kill(agent)
  if (agent.up) return
  mesh.start(agent)
  // An agent that starts publishes itself, before it has heard of anyone.
  mesh.publish(agent, [bootChange(agent.boots)])
}

function restartWithout(mesh: Mesh, agent: Agent): void {
  mesh.kill(agent)
  mesh.start(agent, mesh.random.chance(0.5) ? 'wiped' : 'backup')
  mesh.publish(agent, [bootChange(agent.boots)])
}

function doom(mesh: Mesh, agent: Agent): void {
  agent.doomed = mesh.random.chance(0.5) ? 'midSnapshot' : 'midWrite'
}

/** Halves that do not hear each other, or of which one hears the other, again and again. */
function fallApart(mesh: Mesh): void {
  const { random } = mesh
  const half = new Set(mesh.agents.filter(() => random.chance(0.5)))
  const bothWays = random.chance(0.5)
  let atMs = 0
  for (let times = 2 + random.below(5); times > 0; times--) {
    mesh.after(atMs, () => {
      for (const left of half)
        for (const right of mesh.agents.filter((agent) => !half.has(agent))) {
          mesh.cut(left, right)
          if (bothWays) mesh.cut(right, left)
        }
    })
    mesh.after((atMs += 50 + random.below(1500)), () => mesh.heal())
    atMs += 20 + random.below(600)
  }
}

/** `agent` holds what `other` deletes while it is away, killed or alone, and comes back. */
function outlast(mesh: Mesh, agent: Agent, other: Agent): void {
  if (agent.origin === other.origin || agent.away) return
  const names = Array.from({ length: 3 * SMALL.tombstonesMax }, (_, index) => `gone${index}`)
  const killed = mesh.random.chance(0.5)
  mesh.publish(
    other,
    names.map((name) => serviceChange(name, 1))
  )
  mesh.after(1500, () => (killed ? mesh.kill(agent) : mesh.sendAway(agent)))
  for (const [index, name] of names.entries())
    mesh.after(2000 + 100 * index, () => mesh.publish(other, [deletion(name)]))
  mesh.after(4000, () => {
    mesh.publish(other, randomChanges(mesh.random))
    if (killed) startAgain(mesh, agent)
    else mesh.letBack(agent)
  })
}

function changeVersion(mesh: Mesh, agent: Agent): void {
  mesh.kill(agent)
  agent.version = mesh.random.pick(VERSIONS)
  startAgain(mesh, agent)
  mesh.publish(agent, [...newKinds(mesh.random), sliceChange(mesh.random)])
}

function raiseTwin(mesh: Mesh, agent: Agent, other: Agent): void {
  if (mesh.agents.some((twin) => twin !== agent && twin.origin === agent.origin && twin.up)) return
  const twin = mesh.twin(agent)
  mesh.connect(twin, other)
  mesh.publish(twin, [bootChange(twin.boots), ...randomChanges(mesh.random)])
}

function randomChanges(random: Random) {
  return Array.from({ length: 1 + random.below(6) }, () => {
    const name = `s${random.below(12)}`
    return random.chance(0.35) ? deletion(name) : serviceChange(name, 1 + random.below(5))
  })
}

function deletion(name: string) {
  return { key: `svc/shop/${name}`, value: undefined }
}

/** Some services that are of another kind to a version to come. */
function newKinds(random: Random) {
  return Array.from({ length: 3 }, () => {
    const name = `${NEXT_KIND_PREFIX}${random.below(5)}`
    return random.chance(0.2) ? deletion(name) : serviceChange(name, 1 + random.below(5))
  })
}

/** Large enough to be held packed. */
function sliceChange(random: Random) {
  const third = random.below(200)
  const value: EndpointSliceValue = {
    kind: 'endpointSlice',
    namespace: 'shop',
    name: `web-${random.below(2)}`,
    service: 'web',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: Array.from({ length: 12 }, (_, index) => ({
      addresses: [`10.1.${third}.${index + 1}` as Ip],
      ready: index !== third % 12,
      serving: true,
      terminating: false,
      hostname: '',
      node: `node-${index % 3}`
    }))
  }
  return { key: keyOf(value), value }
}

function bootChange(boots: number) {
  return serviceChange('boot', boots)
}

export function serviceChange(name: string, affinitySeconds: number) {
  const value: ServiceValue = {
    kind: 'service',
    namespace: 'shop',
    name,
    clusterIps: [],
    ports: [],
    headless: true,
    externalName: '',
    affinitySeconds,
    publishNotReady: false
  }
  return { key: keyOf(value), value }
}

/** The storm of a seed: shape, size and faults all follow from it, unless given. */
export function stormOfSeed(seed: number, given: Partial<StormOptions> = {}): StormOptions {
  const random = new Random(seed ^ 0x5eed)
  const shape = given.shape ?? random.pick(['full', 'line', 'tree', 'tree'] as const)
  const agents = given.agents ?? (shape === 'tree' ? 12 + random.below(8) : 2 + random.below(4))
  const faults = given.faults ?? new Set(FAULTS.filter(() => random.chance(0.5)))
  return { ...given, seed, agents, faults, shape }
}

/** What repeats this storm and no other. */
export function repeatCommand({ seed, agents, faults, shape }: StormOptions): string {
  return `make sim SEED=${seed} AGENTS=${agents} SHAPE=${shape} FAULTS=${[...faults].join(',') || 'none'}`
}
