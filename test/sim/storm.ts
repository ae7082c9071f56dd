// A seeded storm over a mesh: what happens is drawn from the seed, so a failure repeats exactly. At the end the faults stop, and
// all heads and hashes must agree within SETTLE_MS of virtual time.
import { keyOf, type ServiceValue } from '../../src/core/model.ts'
import { createFakeCrypto } from './fake-crypto.ts'
import { Mesh, STORMY, type Agent, type MeshOptions } from './mesh.ts'
import { Random } from './random.ts'
import { wanLatencyMs } from './regions.ts'

export const FAULTS = [
  'loss', // frames vanish, come twice, late, or overtake each other
  'link', // connections break and come back
  'oneway', // frames of one direction vanish
  'undialable', // two thirds of the agents can only dial out
  'halfopen', // an agent dies and no connection is closed
  'slow', // a reader takes 2 bytes a millisecond
  'stall', // a machine is paused for up to 20 s
  'kill', // kill -9, in the middle of writing, too
  'disk', // a restart with a wiped disk, or with an old backup
  'clock', // the clock jumps by up to a year, either way
  'twin' // two agents write with one key
] as const

export type Fault = (typeof FAULTS)[number]

export interface StormOptions {
  readonly seed: number
  readonly agents: number
  readonly faults: ReadonlySet<Fault>
  /** `tree`: the overlay of a large mesh, with pushes along trees; the others are direct. */
  readonly shape: 'full' | 'line' | 'tree'
  readonly steps?: number
  /** What these agents' wire carries: another version's. */
  readonly filter?: MeshOptions['filter']
}

export interface StormResult {
  readonly virtualMs: number
  readonly settledMs: number
}

/** Throws what was violated. */
export function storm(options: StormOptions): StormResult {
  const { seed, agents, faults, shape, steps = 60 } = options
  const mesh = new Mesh(meshOptions(options))
  const { random } = mesh
  if (faults.has('loss')) mesh.faults = STORMY
  if (faults.has('clock'))
    for (const agent of mesh.agents) agent.clockMs = (random.below(3) - 1) * random.below(YEAR_MS)
  for (const agent of mesh.agents) mesh.publish(agent, [bootChange(agent.boots)])
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
  return { virtualMs: mesh.nowMs, settledMs }
}

const SETTLE_MS = 120_000
const YEAR_MS = 365 * 86_400_000
// Small enough that parts, pacing, credit, floors and refused shadows all happen.
const SMALL = {
  partBytes: 120,
  tombstonesMax: 3,
  pullsMax: 2,
  windowBytes: 300,
  windowsBytesMax: 600,
  batchesBurst: 2,
  batchesPerSecond: 2
}
// Above this many agents signatures are not worth their time.
const ED25519_AGENTS_MAX = 8

function meshOptions({ seed, agents, faults, shape, filter }: StormOptions): MeshOptions {
  const undialable = faults.has('undialable')
  return {
    seed,
    agents,
    limits: { ...SMALL, ...(shape === 'tree' ? { directMax: 3, partBytes: 600, pullsMax: 8 } : {}) },
    ...(filter ? { filter } : {}),
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
    ['halfopen', 1, (mesh, agent) => mesh.die(agent)],
    ['slow', 1, (_mesh, agent) => void (agent.bytesPerMs = agent.bytesPerMs < Infinity ? Infinity : 2)],
    ['stall', 1, (mesh, agent) => void (agent.stalledUntilMs = mesh.nowMs + mesh.random.below(20_000))],
    ['kill', 2, (mesh, agent) => mesh.kill(agent)],
    ['kill', 2, (mesh, agent) => startAgain(mesh, agent)],
    ['disk', 1, (mesh, agent) => mesh.backUp(agent)],
    ['disk', 1, (mesh, agent) => restartWithout(mesh, agent)],
    ['clock', 1, (mesh, agent) => void (agent.clockMs += (mesh.random.below(3) - 1) * YEAR_MS)],
    ['twin', 1, raiseTwin]
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

function raiseTwin(mesh: Mesh, agent: Agent, other: Agent): void {
  if (mesh.agents.some((twin) => twin !== agent && twin.origin === agent.origin && twin.up)) return
  const twin = mesh.twin(agent)
  mesh.connect(twin, other)
  mesh.publish(twin, [bootChange(twin.boots), ...randomChanges(mesh.random)])
}

function randomChanges(random: Random) {
  return Array.from({ length: 1 + random.below(6) }, () => {
    const name = `s${random.below(12)}`
    return random.chance(0.35)
      ? { key: `svc/shop/${name}`, value: undefined }
      : serviceChange(name, 1 + random.below(5))
  })
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
