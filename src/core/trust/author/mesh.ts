// Founds a mesh: its roots, the first administrator and the founding cluster.
import type { ClusterName } from '../../model/values.ts'
import type { Crypto } from '../../model/crypto.ts'
import { parseCidr } from '../../model/cidr.ts'
import { meshRoots, type MeshRoots } from '../set/mesh-roots.ts'
import type { Cidr } from '../../model/values.ts'
import {
  type Authored,
  type AuthorContext,
  extend,
  keyOfSeed,
  podsAndServices,
  type Prefixes
} from './author.ts'
import { createRootSeat, type SeatRights } from './seat.ts'

/** A new mesh with all of its secrets, which the caller must save before it shows anything. */
interface NewMesh {
  readonly roots: MeshRoots
  /** Seeds of all root keys, in no order of `roots.keys`. */
  readonly rootSeeds: readonly Uint8Array[]
  readonly adminSeed: Uint8Array
  /** The item of the first seat. */
  readonly seatItem: Uint8Array
  readonly clusterSeed: Uint8Array
  /** The item of the founding certificate. */
  readonly clusterItem: Uint8Array
}

/** The rights of the first administrator: everything that a seat may have, but for the span of invites. */
export const FIRST_SEAT_RIGHTS: SeatRights = {
  names: ['*'],
  prefixes: [cidr('0.0.0.0/0'), cidr('::/0')],
  inviteDaysMax: 366,
  clustersMax: 2048,
  maySeat: true
}

/**
 * Creates `roots.number` root keys, of which `roots.k` must sign and do, the first seat and the founding cluster. Throws a
 * RangeError for numbers of roots that no mesh can have, for bad prefixes and for a label that is too long.
 */
export function createMesh(
  options: {
    readonly crypto: Crypto
    readonly roots: { readonly k: number; readonly number: number }
    readonly cluster: ClusterName
    /** Names the first administrator, for people. */
    readonly label: string
  } & Prefixes
): NewMesh {
  const { crypto, label } = options
  const rootSeeds = Array.from({ length: options.roots.number }, () => crypto.random(32))
  const roots = meshRoots(
    crypto,
    options.roots.k,
    rootSeeds.map((seed) => crypto.publicKeyOf(seed))
  )
  const context = { crypto, roots }
  const [adminSeed, clusterSeed] = [crypto.random(32), crypto.random(32)]
  const adminKey = keyOfSeed(context, adminSeed)
  const seat = createRootSeat(context, { rootSeeds, adminKey, label, rights: FIRST_SEAT_RIGHTS })
  const founded = certifyFoundingCluster(context, { ...options, rootSeeds, clusterSeed })
  return { roots, rootSeeds, adminSeed, seatItem: seat.item, clusterSeed, clusterItem: founded.item }
}

/**
 * A founding certificate, which k roots sign: the first cluster of a mesh, or one that begins it again from the exported
 * roots. Throws a RangeError for bad prefixes.
 */
export function certifyFoundingCluster(
  context: AuthorContext,
  options: {
    readonly rootSeeds: readonly Uint8Array[]
    readonly clusterSeed: Uint8Array
    readonly cluster: ClusterName
  } & Prefixes
): Authored {
  const { clusterSeed, cluster } = options
  return extend(
    context,
    undefined,
    {
      kind: 'clusterCert',
      invite: undefined,
      name: cluster,
      clusterKey: keyOfSeed(context, clusterSeed),
      ...podsAndServices(options)
    },
    { roots: options.rootSeeds, accepting: clusterSeed }
  )
}

/** A prefix of this file. */
function cidr(text: string): Cidr {
  const parsed = parseCidr(text)
  if (parsed.kind === 'invalid') throw new Error(parsed.reason)
  return parsed.cidr
}
