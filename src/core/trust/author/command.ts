// The statements of administrators about clusters and about each other, and those of a cluster about itself: Grant, Bar,
// Decide and Void. Each throws a RangeError that names the field when its values exceed the signer's rights.
import type { Cidr, ClusterName } from '../../model/values.ts'
import { shortOf, type KeyId, type ShortId, type StatementId } from '../set/ids.ts'
import type { Bar, Draft } from '../set/statement.ts'
import {
  type Authored,
  type AuthorContext,
  checkSeed,
  extend,
  lastOf,
  podsAndServices,
  type Prefixes,
  rangesOf
} from './author.ts'
import { clusterKeyOf } from './join.ts'

/** The seat that signs: its item and the seed of its key. */
export interface SeatSigner {
  readonly seatItem: Uint8Array
  readonly adminSeed: Uint8Array
}

/** Adds prefixes to a cluster, and drops those that lie in one of `drop`. */
export function grant(
  context: AuthorContext,
  by: SeatSigner,
  change: { readonly clusterKey: KeyId; readonly add: Prefixes; readonly drop: readonly Cidr[] }
): Authored {
  const { clusterKey, add, drop } = change
  return bySeat(context, by, (under) => ({
    kind: 'grant',
    under,
    clusterKey,
    add: podsAndServices(add),
    drop: rangesOf(drop)
  }))
}

/**
 * A seat ends a cluster or an agent. With `keepOnly`, the admissions that the cluster sponsored fall too, but for these.
 */
export function barBySeat(
  context: AuthorContext,
  by: SeatSigner,
  bar: { readonly target: Bar['target']; readonly keepOnly?: Iterable<StatementId> | undefined }
): Authored {
  const { target, keepOnly } = bar
  return bySeat(context, by, (seat) => ({
    kind: 'bar',
    by: { seat },
    target,
    keepOnly: keepOnly && shortIds(keepOnly)
  }))
}

/** A cluster ends one of its agents; `agent` undefined: itself, when its last agent leaves. */
export function barByCluster(
  context: AuthorContext,
  by: { readonly clusterItem: Uint8Array; readonly clusterSeed: Uint8Array },
  agent: KeyId | undefined
): Authored {
  const cluster = clusterKeyOf(context, by.clusterItem)
  checkSeed(context, by.clusterSeed, cluster, 'clusterSeed')
  const target = agent === undefined ? { cluster } : { agent }
  return extend(
    context,
    by.clusterItem,
    { kind: 'bar', by: { cluster }, target, keepOnly: undefined },
    { issuer: by.clusterSeed }
  )
}

/** Leaves one claimant of a name, or adopts a cluster whose admission does not stand (S4). */
export function decide(
  context: AuthorContext,
  by: SeatSigner,
  decision: { readonly name: ClusterName; readonly clusterKey: KeyId }
): Authored {
  return bySeat(context, by, (under) => ({ kind: 'decide', under, ...decision }))
}

/**
 * A seat takes a statement back: an invite, a command, a child seat or itself. `keep` are statements below a seat that
 * stay (keep-list.ts); empty for every other target.
 */
export function voidBySeat(
  context: AuthorContext,
  by: SeatSigner,
  taken: { readonly target: StatementId; readonly keep: Iterable<StatementId> }
): Authored {
  return bySeat(context, by, (under) => ({
    kind: 'void',
    under,
    target: taken.target,
    keep: shortIds(taken.keep)
  }))
}

/** The roots take a statement back; seeds of k of them sign. */
export function voidByRoots(
  context: AuthorContext,
  rootSeeds: readonly Uint8Array[],
  taken: { readonly target: StatementId; readonly keep: Iterable<StatementId> }
): Authored {
  const draft: Draft = { kind: 'void', under: undefined, target: taken.target, keep: shortIds(taken.keep) }
  return extend(context, undefined, draft, { roots: rootSeeds })
}

/** Signs a draft by a seat. */
function bySeat(context: AuthorContext, by: SeatSigner, draft: (seat: StatementId) => Draft): Authored {
  const seat = lastOf(context, by.seatItem, 'seat')
  checkSeed(context, by.adminSeed, seat.adminKey, 'adminSeed')
  return extend(context, by.seatItem, draft(seat.id), { issuer: by.adminSeed })
}

/** The short forms of ids. */
function shortIds(ids: Iterable<StatementId>): ReadonlySet<ShortId> {
  return new Set(Array.from(ids, shortOf))
}
