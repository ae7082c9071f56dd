// A thousand members come back after an outage and all of them dial the one seed that each knows: the worst case, which the overlay
// avoids otherwise. The seed is a whole agent in a process of its own, where it is measured. Some members are whole, too, with
// disk and view; the others are light (light-members.ts), for two cores cannot be a thousand machines. Everyone's disk has what
// everyone had published before; one in ten has changed since.
import { cpSync, writeFileSync } from 'node:fs'
import { freemem } from 'node:os'
import { join } from 'node:path'
import type { Origin } from '../../src/core/model/values.ts'
import { AgentProcess, MANY_AGENTS, newAgents, sharedMs, withFolder, type AgentSpec } from './agents.ts'
import type { Measured } from './row.ts'
import { storeWorld, toWorldOrigin, worldOf, type World } from './world.ts'

/** Whole ones among the members: each restores the mesh from its own disk, and shows it in its own view. */
const WHOLE_MEMBERS = 4
const LIGHT_PROCESSES = 2
/** About 3 MB each in the processes of the members, and as much again at the seed. */
const MEMBER_BYTES = 8e6
const MEMBERS = Number(
  process.env['BENCH_MEMBERS'] ??
    Math.min(1000, Math.max(100, Math.floor(freemem() / MEMBER_BYTES / 100) * 100))
)
const CHANGED_PART = 0.1
const AIM_MS = 60_000
// Preparing and the worst that still tells something.
const PATIENCE_MS = 240_000
const POLL_MS = 500
const PROGRESS_MS = 5000

export const rejoinTitle = `${MEMBERS} members rejoin one seed`

export async function rejoin(): Promise<readonly Measured[]> {
  return withFolder(async (folder) => {
    const specs = newAgents(MEMBERS + 1, folder)
    const [seed, ...members] = specs
    if (seed === undefined) throw new Error('no seed')
    const wholes = members.slice(0, WHOLE_MEMBERS)
    const lights = members.slice(WHOLE_MEMBERS)
    const world = worldOf(specs)
    const worldFile = join(folder, 'world.json')
    writeFileSync(worldFile, JSON.stringify({ specs, origins: world.map(toWorldOrigin) } satisfies World))
    await storeWorld(specs, world, seed.folder)
    for (const { folder: own } of wholes) cpSync(seed.folder, own, { recursive: true })
    const [seedProcess, whole, idle] = [new AgentProcess(), new AgentProcess(), new AgentProcess()]
    const light = Array.from({ length: LIGHT_PROCESSES }, () => new AgentProcess(undefined, MANY_AGENTS))
    try {
      const shares = light.map((_, at) => lights.filter((_spec, index) => index % LIGHT_PROCESSES === at))
      await Promise.all([
        whole.ask('start', { agents: wholes, address: '127.0.0.1' }, PATIENCE_MS),
        ...light.map((each, at) =>
          each.ask('light', { specs: shares[at] ?? [], world: worldFile, dials: seed }, PATIENCE_MS)
        )
      ])
      const {
        members: [reached]
      } = await seedProcess.ask('start', { agents: [seed], address: '127.0.0.1' }, PATIENCE_MS)
      // Members are other machines: what they cost here must not come out of the one that is measured.
      await Promise.all([seedProcess.ask('first', {}), idle.ask('first', {})])
      if (reached === undefined) throw new Error('the seed listens nowhere')
      return await outageEnds({ seed: seedProcess, whole, idle, light, lights, reached })
    } finally {
      await Promise.all([seedProcess, whole, idle, ...light].map((each) => each.kill()))
    }
  })
}

interface Rejoining {
  readonly seed: AgentProcess
  readonly whole: AgentProcess
  /** It does nothing, and shows what the machine alone does to an event loop. */
  readonly idle: AgentProcess
  readonly light: readonly AgentProcess[]
  readonly lights: readonly AgentSpec[]
  readonly reached: { readonly origin: Origin; readonly addresses: readonly string[] }
}

async function outageEnds(mesh: Rejoining): Promise<readonly Measured[]> {
  const { seed, whole, idle, light, lights, reached } = mesh
  const changed = lights.filter((_, index) => index % (1 / CHANGED_PART) === 0).map(({ origin }) => origin)
  const before = await seed.ask('facts', {})
  await idle.ask('facts', {})
  await seed.profile('rejoin')
  const beganMs = sharedMs()
  await Promise.all([
    whole.ask('dial', { members: [reached] }),
    ...light.map((each) => each.ask('lightDial', { member: reached, changed }))
  ])
  const doneMs = (await untilAllHave(mesh, { clusters: MEMBERS + 1, changed: changed.length })) - beganMs
  await seed.profile('rejoin')
  const [after, noise] = [await seed.ask('facts', {}), await idle.ask('facts', {})]
  const title = rejoinTitle
  return [
    {
      name: `${title}: every member and the seed have all (${WHOLE_MEMBERS} members whole, the others light)`,
      value: doneMs / 1000,
      unit: 's',
      aim: { text: `≤ ${AIM_MS / 1000} s`, holds: (value) => value <= AIM_MS / 1000 }
    },
    { name: `${title}: neighbours of the seed then`, value: after.neighbours[0] ?? 0, unit: 'agents' },
    { name: `${title}: CPU of the seed`, value: (after.cpuMs - before.cpuMs) / 1000, unit: 's' },
    {
      name: `${title}: event-loop lag of the seed, longest`,
      value: after.eventLoopMaxMs,
      unit: 'ms',
      baseline: { name: 'an idle process beside it', value: noise.eventLoopMaxMs },
      aim: { text: '< 200 ms', holds: (value) => value < 200 }
    },
    {
      name: `${title}: event-loop lag of the seed, p99`,
      value: after.eventLoopP99Ms,
      unit: 'ms',
      baseline: { name: 'an idle process beside it', value: noise.eventLoopP99Ms }
    },
    {
      name: `${title}: RSS of the seed at its most`,
      value: after.rssMaxBytes / 1e6,
      unit: 'MB',
      baseline: { name: 'before', value: before.rssBytes / 1e6 },
      aim: { text: '≤ 1,000 MB', holds: (value) => value <= 1000 }
    },
    { name: `${title}: RSS of the seed after`, value: after.rssBytes / 1e6, unit: 'MB' }
  ]
}

/** Asked now and then only: the answers cost the seed time. */
async function untilAllHave(
  { seed, whole, light }: Rejoining,
  goal: { readonly clusters: number; readonly changed: number }
): Promise<number> {
  const beganMs = sharedMs()
  for (let saidMs = beganMs; ;) {
    await new Promise((resolve) => {
      setTimeout(resolve, POLL_MS)
    })
    const shares = await Promise.all(light.map((each) => each.ask('lightFacts', {})))
    const isIn = shares.every(({ whole: held, members }) => held === members)
    const views = isIn || sharedMs() - saidMs > PROGRESS_MS ? await viewsOf(seed, whole) : []
    const isDone =
      views.length > 0 &&
      views.every(({ clusters, changed }) => clusters >= goal.clusters && changed >= goal.changed)
    if (isIn && isDone)
      return Math.max(...shares.map(({ wholeMs }) => wholeMs), ...views.map(({ atMs }) => atMs))
    const nowMs = sharedMs()
    if (nowMs - saidMs > PROGRESS_MS) {
      saidMs = nowMs
      const [connected, held] = [
        sum(shares.map((each) => each.connected)),
        sum(shares.map((each) => each.whole))
      ]
      const seen = views.map(({ clusters, changed }) => `${clusters}/${changed}`).join(' ')
      process.stderr.write(
        `bench: after ${Math.round((nowMs - beganMs) / 1000)} s: ${connected} connected, ${held} have all; seed and whole members: ${seen}\n`
      )
    }
    if (nowMs - beganMs > PATIENCE_MS)
      throw new Error(
        `not all are back: ${JSON.stringify({ shares, views, goal, seed: await seed.ask('facts', {}) })}`
      )
  }
}

function viewsOf(seed: AgentProcess, whole: AgentProcess) {
  return Promise.all([
    seed.ask('meshFacts', { agent: 0 }),
    ...Array.from({ length: WHOLE_MEMBERS }, (_, agent) => whole.ask('meshFacts', { agent }))
  ])
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
