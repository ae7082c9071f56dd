// A small mesh with real keys, signed by src/core/trust/author, for tests that need members and no single rule of trust.
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { parseCidr } from '../../../src/core/model/cidr.ts'
import type { Crypto } from '../../../src/core/model/crypto.ts'
import type { Cidr, ClusterName } from '../../../src/core/model/values.ts'
import { parseClusterName } from '../../../src/core/model/identity.ts'
import {
  admitCluster,
  certifyAgent,
  certifyCluster,
  createInvite
} from '../../../src/core/trust/author/join.ts'
import { createMesh } from '../../../src/core/trust/author/mesh.ts'
import type { Credential } from '../../../src/core/trust/members/credential.ts'
import { createMembers, type Members } from '../../../src/core/trust/members/members.ts'
import { openItem, type OpenedItem } from '../../../src/core/trust/set/form.ts'
import type { MeshRoots } from '../../../src/core/trust/set/mesh-roots.ts'

export const crypto: Crypto = createCrypto()
/** 2026-11-23T00:00:00Z */
export const NOW = 1_795_392_000
export const HOUR = 3600
export const DAY = 86_400

export function cidr(text: string): Cidr {
  const parsed = parseCidr(text)
  if (parsed.kind === 'invalid') throw new Error(parsed.reason)
  return parsed.cidr
}

export function clusterName(text: string): ClusterName {
  const parsed = parseClusterName(text)
  if (parsed.kind === 'invalid') throw new Error(parsed.reason)
  return parsed.clusterName
}

/** What functions that make statements for this mesh need. */
export interface Context {
  readonly crypto: Crypto
  readonly roots: MeshRoots
}

export interface TestCluster {
  readonly context: Context
  readonly clusterSeed: Uint8Array
  /** It ends in the founding certificate or the admission. */
  readonly clusterItem: Uint8Array
}

export interface TestAgent {
  readonly seed: Uint8Array
  readonly credential: Credential
}

export interface TestMesh extends Context {
  readonly meshId: Uint8Array
  readonly rootSeeds: readonly Uint8Array[]
  readonly adminSeed: Uint8Array
  readonly seatItem: Uint8Array
  readonly founder: TestCluster
  /** The founder's statements. */
  readonly founded: OpenedItem
}

export function makeMesh(
  cluster = 'west',
  pods: readonly string[] = ['10.1.0.0/16'],
  services: readonly string[] = ['10.101.0.0/16'],
  own = crypto
): TestMesh {
  const { roots, rootSeeds, adminSeed, seatItem, clusterSeed, clusterItem } = createMesh({
    crypto: own,
    roots: { k: 1, number: 1 },
    cluster: clusterName(cluster),
    label: 'admin',
    pods: pods.map(cidr),
    services: services.map(cidr)
  })
  const context = { crypto: own, roots }
  const founder = { context, clusterSeed, clusterItem }
  const founded = openItem(context, clusterItem)
  if (founded.kind === 'refused') throw new Error(founded.reason)
  return { ...context, meshId: roots.meshId, rootSeeds, adminSeed, seatItem, founder, founded }
}

export interface InviteTerms {
  readonly cluster: string
  readonly pods: readonly string[]
  readonly services?: readonly string[]
  readonly namespaces?: readonly string[]
  readonly notBefore?: number
  readonly notAfter?: number
}

/** An invite of the mesh's administrator. */
export function invite(mesh: TestMesh, terms: InviteTerms): { item: Uint8Array; inviteSeed: Uint8Array } {
  const notBefore = terms.notBefore ?? NOW
  return createInvite(mesh, {
    seatItem: mesh.seatItem,
    adminSeed: mesh.adminSeed,
    cluster: clusterName(terms.cluster),
    pods: terms.pods.map(cidr),
    services: (terms.services ?? []).map(cidr),
    namespaces: terms.namespaces ?? [],
    notBefore,
    notAfter: terms.notAfter ?? notBefore + DAY
  })
}

/** A new cluster, which the founder admits. Of two claimants of a name or prefix, the one with the lower `seen` is first. */
export function join(mesh: TestMesh, terms: InviteTerms, seen = 1): TestCluster {
  const { item: inviteItem, inviteSeed } = invite(mesh, terms)
  const clusterSeed = mesh.crypto.random(32)
  const { item: certItem } = certifyCluster(mesh, { inviteItem, inviteSeed, clusterSeed })
  const { item } = admitCluster(mesh, { certItem, sponsorSeed: mesh.founder.clusterSeed, seen, time: NOW })
  return { context: { crypto: mesh.crypto, roots: mesh.roots }, clusterSeed, clusterItem: item }
}

export function agentOf(
  { context, ...cluster }: TestCluster,
  node = 'gw-1',
  generation = 1,
  seed = context.crypto.random(32)
): TestAgent {
  const credential = certifyAgent(context, {
    ...cluster,
    agentSeed: seed,
    node,
    roles: ['gateway', 'node'],
    generation
  })
  return { seed, credential }
}

/**
 * The members as one of them knows them: the founder's cluster, and these agents. All clusters come at once, as from the store, so
 * that the order of the list decides nothing (E1).
 */
export function membersOf(mesh: TestMesh, agents: readonly TestAgent[]): Members {
  const { crypto: own, roots } = mesh
  const members = createMembers({ crypto: own, roots, owners: new Map(), generations: new Map() })
  members.addItems([mesh.founded, ...agents.map(({ credential }) => credential.item)])
  for (const { credential } of agents) members.addCredential(credential)
  return members
}

export const EAST: InviteTerms = { cluster: 'east', pods: ['10.2.0.0/16'], services: ['10.102.0.0/16'] }

export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = bytes.slice()
  const at = bit >> 3
  flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7))
  return flipped
}
