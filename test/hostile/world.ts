// The honest side: three real agents on loopback, each a cluster of its own, and what must not change while they are attacked.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type {
  EventRow,
  EventsAnswer,
  PeersAnswer,
  ServicesAnswer,
  StatusAnswer
} from '../../src/api/answers.ts'
import { ENDPOINTS } from '../../src/api/endpoints.ts'
import { serviceIp } from '../demo/checks.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { CLUSTERS, podCidr, serviceCidr, type Cluster } from '../demo/site.ts'
import { eventually, slowness } from '../eventually.ts'
import { Attacker, credentialFor, originOfDoor, redeem, type Redeemed } from './attacker.ts'

/** `make soak` sets it: floods and counts are so many times larger. */
export const SCALE = Number(process.env['HOSTILE_SCALE'] ?? 1)

// Ratios to what was measured right before, since a slow machine is slow before and after. What an attack may cost: twice the memory, and turns of the
// event loop that are 20 times longer at their 99th percentile (of 20 ms at least, since an idle loop has turns that are too short to compare with; longer on a
// machine that is busy with other work, which may have come after the first measurement).
const MEMORY_RATIO = 2
// With the numbers of `make test`, an agent has less than this, whatever the attack (measured: 152 MiB where six agents of one cluster say all they may).
const MEMORY_MAX_KB = 400 * 1024
const LAG_RATIO = 20
// Of an agent that takes as many records as its limits allow.
const FULL_LAG_RATIO = 50
const LAG_FLOOR_SECONDS = 0.02
// Time in which an answer must come on an idle machine.
const ANSWER_MS = 3000

/** What was measured of one agent. */
interface Load {
  readonly rssKb: number
  readonly lagSeconds: number
}

/** A hostile member: it was admitted by its own token, properly. */
export interface HostileMember {
  readonly attacker: Attacker
  readonly redeemed: Redeemed
  readonly clusterItem: Uint8Array
  readonly credential: Uint8Array
}

/** See the head of this file. */
export class World {
  readonly folder = mkdtempSync(join(tmpdir(), 'hostile-'))
  readonly #agents = new Map<Cluster, LoopbackAgent>()
  readonly #doors = new Map<Cluster, string>()
  readonly #attackers: Attacker[] = []
  /** Each token of the run: the last claim searches for them. */
  readonly tokens: string[] = []
  /** Pod and service prefixes are numbered from here for clusters of attackers. */
  #next = 20

  /** Three agents; west has made a mesh and east has joined it, edge has not. */
  static async raise(): Promise<World> {
    const world = new World()
    try {
      for (const cluster of CLUSTERS)
        world.#agents.set(cluster, await LoopbackAgent.create(world.folder, cluster))
      await Promise.all(CLUSTERS.map((cluster) => world.start(cluster)))
      const [pods, services] = [podCidr('west'), serviceCidr('west')]
      await world
        .agent('west')
        .done('init', '--cluster', 'west', '--pod-cidr', pods, '--service-cidr', services)
      await world.joins('east')
      return world
    } catch (error) {
      for (const { cluster, tail } of world.#agents.values())
        console.error(`end of the log of ${cluster}:\n${tail}`)
      await world.close()
      throw error
    }
  }

  agent(cluster: Cluster): LoopbackAgent {
    const agent = this.#agents.get(cluster)
    assert.ok(agent)
    return agent
  }

  /** The multiaddr at which an honest agent listens. */
  door(cluster: Cluster): string {
    const door = this.#doors.get(cluster)
    assert.ok(door, `${cluster} has not joined`)
    return door
  }

  async start(cluster: Cluster): Promise<void> {
    await this.agent(cluster).start({
      'http-listen': `127.0.0.1:${metricsPort(cluster)}`,
      ...(cluster === 'west' && { 'relay-rate': '8' })
    })
  }

  async restart(cluster: Cluster): Promise<void> {
    await this.agent(cluster).stop()
    await this.start(cluster)
  }

  /** An honest agent joins by a token of west. */
  async joins(cluster: Cluster): Promise<string> {
    const token = await this.invite(cluster, podCidr(cluster), serviceCidr(cluster))
    this.#doors.set('west', redeem(token).doors.find((door) => door.includes('/tcp/')) ?? '')
    await this.agent(cluster).done('join', token)
    // Its own row is there once it has published its first record, a moment after the join.
    await eventually(async () => {
      const { peers } = await ask<PeersAnswer>(this.agent(cluster), 'peers')
      const self = peers.find((row) => row.state === 'self')
      if (self === undefined) return false
      this.#doors.set(cluster, `${this.agent(cluster).control}/p2p/${self.peerId}`)
      return true
    })
    return token
  }

  /** edge joins, too, unless it has. */
  async complete(): Promise<void> {
    if (!this.#doors.has('edge')) await this.joins('edge')
  }

  /** A token of west for any name. Without prefixes, ones that no other cluster has. */
  async invite(name: string, pods?: string, services?: string, ...flags: readonly string[]): Promise<string> {
    const number = this.#next++
    const prefixes = [
      '--pod-cidr',
      pods ?? `10.${number}.0.0/16`,
      '--service-cidr',
      services ?? `10.${100 + number}.0.0/16`
    ]
    const { stdout } = await this.agent('west').done('invite', name, ...prefixes, ...flags)
    const token = stdout.trim()
    this.tokens.push(token)
    return token
  }

  /** A peer with keys of its own, of the mesh that the token is for. */
  async attacker({ roots }: Pick<Redeemed, 'roots'>, seed?: Uint8Array): Promise<Attacker> {
    const attacker = await Attacker.create(roots, seed)
    this.#attackers.push(attacker)
    return attacker
  }

  /** A cluster of this name joins properly, and is hostile from then on. */
  async member(name: string, door: Cluster = 'west'): Promise<HostileMember> {
    const redeemed = redeem(await this.invite(name))
    const attacker = await this.attacker(redeemed)
    return { attacker, redeemed, ...(await attacker.join(this.door(door), redeemed)) }
  }

  /** One more agent of a hostile cluster, connected at that door. */
  async sibling({ redeemed, clusterItem }: HostileMember, door: Cluster): Promise<HostileMember> {
    const attacker = await this.attacker(redeemed)
    const credential = credentialFor(redeemed, clusterItem, attacker.seed)
    await attacker.enter(this.door(door), credential)
    return { attacker, redeemed, clusterItem, credential }
  }

  /** Ends the connections of all attackers so far. */
  async dismiss(): Promise<void> {
    await Promise.all(this.#attackers.splice(0).map((attacker) => attacker.stop()))
  }

  async events(cluster: Cluster): Promise<readonly EventRow[]> {
    return (await ask<EventsAnswer>(this.agent(cluster), 'events')).events
  }

  /** Waits for an event at this agent about this peer. The cluster is compared only where the peer has shown one. */
  async told(
    at: Cluster,
    wanted: {
      readonly kind: EventRow['kind']
      readonly of: Attacker
      readonly cluster?: string
      readonly reason?: RegExp
    }
  ): Promise<void> {
    await eventually(async () => {
      const rows = (await this.events(at)).filter(({ peerId }) => peerId === wanted.of.origin)
      const found = rows.some(
        ({ kind, cluster, reason }) =>
          kind === wanted.kind && cluster === wanted.cluster && (wanted.reason?.test(reason) ?? true)
      )
      assert.ok(
        found,
        `no event ${JSON.stringify({ ...wanted, of: wanted.of.origin })} in ${JSON.stringify(rows, undefined, 1)}`
      )
      return true
    }, 5000)
  }

  /**
   * Does this while DNS and the admin socket of each of these agents are asked without a pause, and shows that nothing honest was lost by it: records, peers,
   * answers; and that memory and turns of the event loop stay within their ratios. `roomKb`: what the attack may make them keep by the rules.
   */
  async unharmed(clusters: readonly Cluster[], act: () => Promise<void>, roomKb = 0): Promise<void> {
    const before = new Map<Cluster, { services: readonly string[]; load: Load }>()
    for (const cluster of clusters) {
      await this.settled(cluster, clusters)
      await this.#load(cluster)
    }
    await sleep(500)
    for (const cluster of clusters)
      before.set(cluster, {
        services: await this.honestServices(cluster, clusters),
        load: await this.#load(cluster)
      })
    const began = Date.now()
    const watch = this.#watch(clusters)
    try {
      await act()
    } finally {
      await watch.end()
    }
    for (const cluster of clusters) {
      const was = before.get(cluster)
      assert.ok(was)
      const load = await this.#load(cluster)
      await this.settled(cluster, clusters)
      assert.deepEqual(await this.honestServices(cluster, clusters), was.services)
      const honest = new Set(clusters.map((one) => originOfDoor(this.door(one))))
      const lost = (await this.events(cluster)).filter(
        ({ kind, peerId, lastAt }) =>
          (kind === 'disconnected' || kind === 'banned') &&
          honest.has(peerId as never) &&
          Date.parse(lastAt) >= began
      )
      assert.deepEqual(lost, [], `${cluster} lost honest neighbours`)
      const rssKb = Math.max(load.rssKb, watch.highestRssKb(cluster))
      const [memory, lag] = [
        (rssKb - (SCALE > 1 ? roomKb : 0)) / was.load.rssKb,
        load.lagSeconds / Math.max(was.load.lagSeconds, LAG_FLOOR_SECONDS)
      ]
      if (process.env['HOSTILE_FIGURES']) console.log({ cluster, memory, lag, rssKb, was: was.load, load })
      assert.ok(
        memory < MEMORY_RATIO,
        `the memory of ${cluster} grew ${memory.toFixed(2)} times, to ${rssKb} KiB`
      )
      assert.ok(SCALE > 1 || rssKb < MEMORY_MAX_KB, `${cluster} takes ${rssKb} KiB`)
      assert.ok(
        lag < (roomKb > 0 ? FULL_LAG_RATIO : LAG_RATIO) * slowness(),
        `turns of ${cluster} became ${lag.toFixed(1)} times longer, ${load.lagSeconds} s at p99`
      )
    }
  }

  /** Waits until an agent is connected to these clusters and answers for all of their names. */
  async settled(cluster: Cluster, clusters: readonly Cluster[]): Promise<void> {
    const others = clusters.filter((one) => one !== cluster)
    await eventually(async () => {
      const { peers } = await ask<PeersAnswer>(this.agent(cluster), 'peers')
      const missing = others.filter((other) => !peers.some((row) => row.cluster === other && row.connected))
      assert.deepEqual(missing, [], `${cluster} is not connected to them`)
      for (const other of clusters) assert.deepEqual(await this.names(cluster, other), [serviceIp[other]])
      return true
    }, 20_000)
  }

  /** What an agent's DNS answers for the service `web` of a cluster. */
  async names(cluster: Cluster, of: string): Promise<readonly string[]> {
    const { addresses } = await this.agent(cluster).resolve(`web.shop.svc.cluster.${of}`)
    return addresses
  }

  /** The services of the honest clusters as this agent has them. */
  async honestServices(cluster: Cluster, of: readonly Cluster[]): Promise<readonly string[]> {
    const { services } = await ask<ServicesAnswer>(this.agent(cluster), 'services')
    return services
      .filter((row) => of.includes(row.cluster as Cluster))
      .map((row) => JSON.stringify(row))
      .toSorted()
  }

  async metrics(cluster: Cluster): Promise<string> {
    return (await fetch(`http://127.0.0.1:${metricsPort(cluster)}/metrics`)).text()
  }

  async close(): Promise<void> {
    await this.dismiss()
    await Promise.all([...this.#agents.values()].map((agent) => agent.stop()))
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Each answer must come within ANSWER_MS on an idle machine. */
  #watch(clusters: readonly Cluster[]): { end(): Promise<void>; highestRssKb(cluster: Cluster): number } {
    const ended = new AbortController()
    const highest = new Map<Cluster, number>()
    const failures: string[] = []
    const loop = async (cluster: Cluster): Promise<void> => {
      while (!ended.signal.aborted) {
        highest.set(cluster, Math.max(highest.get(cluster) ?? 0, this.#rssKb(cluster)))
        const began = performance.now()
        try {
          await ask<StatusAnswer>(this.agent(cluster), 'status')
          const other = clusters.find((one) => one !== cluster) ?? cluster
          const found = await this.names(cluster, other)
          if (found[0] !== serviceIp[other]) failures.push(`${cluster} answers ${found.join()} for ${other}`)
        } catch (error) {
          failures.push(`${cluster}: ${String(error)}`)
        }
        const ms = performance.now() - began
        if (ms > ANSWER_MS * slowness()) failures.push(`${cluster} answered after ${Math.round(ms)} ms`)
        await sleep(100)
      }
    }
    const loops = clusters.map((cluster) => loop(cluster))
    return {
      highestRssKb: (cluster) => highest.get(cluster) ?? 0,
      async end() {
        ended.abort()
        await Promise.all(loops)
        assert.deepEqual(failures, [])
      }
    }
  }

  /** The 99th percentile counts from the reading before. */
  async #load(cluster: Cluster): Promise<Load> {
    const lag = /^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(await this.metrics(cluster))?.[1]
    assert.ok(lag, 'no nodejs_eventloop_lag_p99_seconds among the metrics')
    return { rssKb: this.#rssKb(cluster), lagSeconds: Number(lag) }
  }

  #rssKb(cluster: Cluster): number {
    const status = readFileSync(`/proc/${this.agent(cluster).pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1])
  }
}

/** All that the admin socket tells without changing anything. */
export function answersFor(asking: Cluster): string[] {
  const other = CLUSTERS.find((cluster) => cluster !== asking) ?? asking
  const queries: Readonly<Record<string, string>> = {
    why: `?target=web.shop.svc.cluster.${other}:80`,
    ping: `?cluster=${other}&count=1`
  }
  return Object.values(ENDPOINTS)
    .filter(({ method }) => method === 'GET')
    .map(({ path }) => path.replace('/v1/', ''))
    .map((path) => `${path}${queries[path] ?? ''}`)
}

/** An admin answer, without the cost of a process. */
export async function ask<T>(agent: Pick<LoopbackAgent, 'cluster' | 'socket'>, path: string): Promise<T> {
  return JSON.parse(await askText(agent, path)) as T
}

/** The same as it came. Errors: an answer that is none. */
export function askText(agent: Pick<LoopbackAgent, 'cluster' | 'socket'>, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { agent: false, socketPath: agent.socket, path: `/v1/${path}`, timeout: 60_000 },
      (response) => {
        let text = ''
        response.on('data', (chunk) => (text += String(chunk)))
        response.on('end', () =>
          response.statusCode === 200
            ? resolve(text)
            : reject(new Error(`${path} in ${agent.cluster}: ${text}`))
        )
      }
    )
    asked.on('error', reject)
    asked.on('timeout', () => asked.destroy(new Error(`no answer to ${path} in ${agent.cluster}`)))
    asked.end()
  })
}

/** Above the ports of loopback agents, and below those that the kernel gives to others. */
function metricsPort(cluster: Cluster): number {
  return 21_000 + CLUSTERS.indexOf(cluster)
}
