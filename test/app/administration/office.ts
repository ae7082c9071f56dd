// An agent of an administrator without a network: a real trust set in memory, real keys, an identity, and a session that
// has no connections. What it signs goes into its own set.
import type { OuterAddress } from '../../../src/core/host/surroundings.ts'
import type { ClusterName, Origin } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { Administration } from '../../../src/app/administration/administration.ts'
import { Administrators } from '../../../src/app/administration/administrators.ts'
import { RootKeys } from '../../../src/app/administration/root-keys.ts'
import { base64 } from '../../../src/app/identity/encoding.ts'
import { meshField, pendingMembership } from '../../../src/app/identity/identity.ts'
import { CurrentSession } from '../../../src/app/session/current-session.ts'
import type { ClusterStanding } from '../../../src/core/trust/set/clusters.ts'
import type { Seat, Statement } from '../../../src/core/trust/set/statement.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import type { Identity } from '../../../src/io/store/store.ts'
import { SILENT, trustOf } from '../control/trust-parts.ts'
import { credentialOf } from '../../core/trust/members/people.ts'
import { NOW } from '../../core/trust/fixtures.ts'
import {
  type TestCluster,
  type TestInvite,
  type TestSeat,
  type Thing,
  World
} from '../../core/trust/set/world.ts'

interface OfficeOptions {
  readonly world: World
  /** The cluster of this agent. */
  readonly own: TestCluster
  /** The other statements that it holds. */
  readonly things: readonly Thing[]
  /** The seats of its identity. */
  readonly seats?: readonly TestSeat[]
  /** Whether its identity has the root keys. */
  readonly hasRoot?: boolean
  /** The open invites that it keeps. */
  readonly invites?: readonly TestInvite[]
  readonly isJoined?: boolean
}

/** A world with Ed25519 in place of hashes. */
export function realWorld(options: { readonly roots?: number; readonly k?: number } = {}): World {
  return new World({ crypto: createCrypto(), ...options })
}

/** See the head of this file. */
export class Office {
  readonly administration: Administration
  readonly administrators: Administrators
  readonly rootKeys: RootKeys
  readonly origin: Origin
  readonly #parts: ReturnType<typeof trustOf>
  /** The tunnels' health, by PeerId of the gateway. */
  readonly health = new Map<Origin, 'up' | 'down'>()
  /** The agents of the view, by cluster. */
  readonly agents = new Map<string, readonly Origin[]>()
  /** Agents that may ask for the key of the cluster, or have it, and were never connected. */
  readonly invited = new Set<Origin>()
  identity: Identity | undefined
  /** Addresses by which members are reached. */
  outers: readonly OuterAddress[] = []

  constructor({
    world,
    own,
    things,
    seats = [],
    hasRoot = false,
    invites = [],
    isJoined = true
  }: OfficeOptions) {
    const { crypto, roots } = world
    this.#parts = trustOf(world, [own, ...things])
    const { members } = this.#parts.trust
    const nodeSeed = crypto.random(32)
    const agent = world.agent(own, 1, nodeSeed)
    this.origin = originOf(crypto.publicKeyOf(nodeSeed))
    this.#parts.trust.addCredential(credentialOf(members, agent))
    const identity: Identity = {
      nodeSeed: base64(nodeSeed),
      tunnelSeed: base64(crypto.random(32)),
      mesh: meshField(roots),
      cluster: members.standing().clusters.get(own.key)?.name ?? '',
      clusterSeed: base64(own.seed),
      clusterItem: base64(own.item),
      seats: seats.map(({ seed, item }) => ({ adminSeed: base64(seed), seatItem: base64(item) })),
      rootSeeds: hasRoot ? world.rootSeeds.map(base64) : [],
      invites: invites.map(({ id, name, item }) => ({
        id,
        cluster: name,
        prefixes: [],
        expiresMs: (NOW + 86_400) * 1000,
        item: base64(item)
      }))
    }
    this.identity = identity
    const current = new CurrentSession()
    if (isJoined) current.set(this.#session(pendingMembership(identity, crypto)) as never)
    const options = {
      current,
      crypto,
      log: SILENT,
      gateways: { isFor: (origin: Origin) => this.invited.has(origin) },
      store: {
        identity: () => this.identity,
        changeIdentity: async (change: (identity: Identity) => Identity) => {
          const next = this.identity && change(this.identity)
          if (next !== this.identity && this.#parts.state.isFull) throw new Error('the disk is full')
          return (this.identity = next)
        }
      }
    }
    this.rootKeys = new RootKeys(options)
    this.administration = new Administration({ ...options, rootKeys: this.rootKeys })
    this.administrators = new Administrators({ ...options, rootKeys: this.rootKeys })
  }

  /** The trust set and its disk. */
  get trust() {
    return this.#parts.trust
  }

  get disk() {
    return this.#parts.disk
  }

  /** Makes every write fail, or succeed again. */
  fillDisk(isFull: boolean): void {
    this.#parts.state.isFull = isFull
  }

  /** What the statements say of a cluster key now. */
  standingOf({ key }: TestCluster): ClusterStanding {
    const standing = this.trust.members.standing().clusters.get(key)
    if (standing === undefined) throw new Error(`no cluster with the key ${key}`)
    return standing
  }

  /** Whether a cluster stands now. */
  stands(cluster: TestCluster): boolean {
    return this.standingOf(cluster).verdict.stands
  }

  /** Which of some keys has a name now. */
  owner(name: string): string | undefined {
    return this.trust.members.settlement().get(name as ClusterName)?.clusterKey
  }

  /** The prefixes of a cluster for pods that are in force. */
  pods({ key }: TestCluster): readonly string[] {
    return this.trust.members.ownership().prefixes.get(key)?.pods ?? []
  }

  services({ key }: TestCluster): readonly string[] {
    return this.trust.members.ownership().prefixes.get(key)?.services ?? []
  }

  /** Adds statements that came from others. */
  learn(things: readonly Thing[]): void {
    const { set } = this.trust.members
    const items = things.map(({ item }) => set.open(item)).filter((item) => item.kind === 'item')
    this.trust.learn(items)
  }

  /** Adds an agent that runs, and shows its tunnel as healthy or not. Returns its PeerId. */
  meet(world: World, cluster: TestCluster, health: 'up' | 'down' = 'up'): Origin {
    const seed = world.crypto.random(32)
    this.trust.addCredential(credentialOf(this.trust.members, world.agent(cluster, 1, seed)))
    const origin = originOf(world.crypto.publicKeyOf(seed))
    const { name } = this.standingOf(cluster)
    this.agents.set(name, [...(this.agents.get(name) ?? []), origin])
    this.health.set(origin, health)
    return origin
  }

  /** The statements of a kind in the set. */
  statements<K extends Statement['kind']>(kind: K): readonly Extract<Statement, { kind: K }>[] {
    const { commands } = this.trust.members.set
    return [...commands.values()]
      .map(({ statement }): Statement => statement)
      .filter((statement): statement is Extract<Statement, { kind: K }> => statement.kind === kind)
  }

  /** The seats that stand, by label. */
  seats(): readonly Seat[] {
    const { set } = this.trust.members
    const { seats } = this.trust.members.standing()
    return Array.from(set.seats.values(), ({ statement }) => statement).filter(
      ({ id }) => seats.get(id)?.stands
    )
  }

  #session(membership: ReturnType<typeof pendingMembership>) {
    const { trust } = this.#parts
    const view = () => ({
      clusters: new Map(
        Array.from(this.agents, ([name, origins]) => [
          name,
          { agents: origins.map((origin) => ({ origin })) }
        ])
      )
    })
    return {
      membership,
      control: {
        origin: this.origin,
        members: trust.members,
        sign: (items: readonly Uint8Array[]) => trust.add(items),
        neighbours: () => ['a', 'b'],
        view
      },
      paths: { tunnels: { health: (origin: Origin) => this.health.get(origin) } },
      around: async () => ({
        surroundings: { networks: [], gateways: [], resolvers: [], addresses: [] },
        outers: this.outers
      })
    }
  }
}
