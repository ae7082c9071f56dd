// Creates seats. The administrator's key is made by the administrator; only its public half comes here.
import type { Cidr } from '../../model/values.ts'
import type { KeyId } from '../set/ids.ts'
import type { Rights } from '../set/statement.ts'
import { type Authored, type AuthorContext, checkSeed, extend, lastOf, rangesOf } from './author.ts'

/** The rights of a new seat, with prefixes as people write them. */
export interface SeatRights extends Omit<Rights, 'prefixes'> {
  readonly prefixes: readonly Cidr[]
}

/** What a new seat says. */
interface NewSeat {
  readonly adminKey: KeyId
  /** For people, at most 64 characters. */
  readonly label: string
  readonly rights: SeatRights
}

/** A seat under the roots; seeds of k of them sign. Throws a RangeError when there are fewer, or for a bad value. */
export function createRootSeat(
  context: AuthorContext,
  options: NewSeat & { readonly rootSeeds: readonly Uint8Array[] }
): Authored {
  const draft = draftOf(options)
  return extend(context, undefined, { ...draft, under: undefined }, { roots: options.rootSeeds })
}

/** A seat under another one. Throws a RangeError when its rights do not lie within the parent's (F3). */
export function createChildSeat(
  context: AuthorContext,
  options: NewSeat & { readonly seatItem: Uint8Array; readonly adminSeed: Uint8Array }
): Authored {
  const { seatItem, adminSeed } = options
  const parent = lastOf(context, seatItem, 'seat')
  checkSeed(context, adminSeed, parent.adminKey, 'adminSeed')
  return extend(context, seatItem, { ...draftOf(options), under: parent.id }, { issuer: adminSeed })
}

/** The content of a seat but for its parent. */
function draftOf({ adminKey, label, rights }: NewSeat) {
  return { kind: 'seat' as const, adminKey, label, ...rights, prefixes: rangesOf(rights.prefixes) }
}
