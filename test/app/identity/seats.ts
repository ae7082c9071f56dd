// The seats of an agent that has made a mesh, as its trust set says.
import assert from 'node:assert/strict'
import { ownSeats, type OwnSeat } from '../../../src/app/administration/own-seats.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { rootsOf } from '../../../src/app/identity/identity.ts'
import type { Crypto } from '../../../src/core/model/crypto.ts'
import { createMembers } from '../../../src/core/trust/members/members.ts'
import type { Identity } from '../../../src/io/store/store.ts'

/** The seats of this identity; none for an agent in no mesh. */
export function seatsOf(identity: Identity, crypto: Crypto): readonly OwnSeat[] {
  const roots = rootsOf(identity, crypto)
  if (roots === undefined) return []
  const members = createMembers({ crypto, roots, owners: new Map(), generations: new Map() })
  const items = (identity.seats ?? []).map(({ seatItem }) => members.set.open(bytes(seatItem)))
  assert.ok(items.every((item) => item.kind === 'item'))
  members.addItems(items)
  return ownSeats(identity, members, crypto)
}
