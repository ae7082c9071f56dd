// Members for the tests of this folder, over the mesh of ../set/world.ts.
import assert from 'node:assert/strict'
import type { OpenedItem } from '../../../../src/core/trust/set/form.ts'
import type { Origin } from '../../../../src/core/model/values.ts'
import { type Credential, openCredential } from '../../../../src/core/trust/members/credential.ts'
import { createMembers, type Members } from '../../../../src/core/trust/members/members.ts'
import { type TestCluster, type TestSeat, type Thing, World } from '../set/world.ts'

/** The members of a world as a new agent knows them. */
export function membersOf(
  world: World,
  things: readonly Thing[] = [],
  options: Partial<Omit<Parameters<typeof createMembers>[0], 'crypto' | 'roots'>> = {}
): Members {
  const members = createMembers({
    crypto: world.crypto,
    roots: world.roots,
    owners: new Map(),
    generations: new Map(),
    ...options
  })
  addThings(members, things)
  return members
}

/** Adds all things in one call. Those that are refused for their form are left out. */
export function addThings(members: Members, things: readonly Thing[]): void {
  members.addItems(things.map(({ item }) => members.set.open(item)).filter(isOpened))
}

/** The credential of an agent, which must be well formed. */
export function credentialOf(members: Members, agent: Thing): Credential {
  const credential = openCredential(members.set, agent.item)
  assert.ok(credential.kind === 'credential', JSON.stringify(credential))
  return credential
}

/** The origins that are admitted, sorted. */
export function admittedTo(members: Members): readonly Origin[] {
  return [...members.origins()].sort()
}

/** A mesh of two administrators; west founded it, east and berlin were invited. */
export function twoSeats(): {
  readonly world: World
  readonly west: TestCluster
  readonly ann: TestSeat
  readonly bob: TestSeat
  readonly east: TestCluster
  readonly berlin: TestCluster
  readonly things: readonly Thing[]
} {
  const world = new World()
  const west = world.found('west', ['10.1.0.0/16'])
  const [ann, bob] = [world.seat(), world.seat({ names: ['b*'] })]
  const east = world.join(ann, west, 1, 'east', { pods: ['10.2.0.0/16'], services: ['10.102.0.0/16'] })
  const berlin = world.join(bob, east, 2, 'berlin', { pods: ['10.3.0.0/16'] })
  return { world, west, ann, bob, east, berlin, things: [west, ann, bob, east, berlin] }
}

function isOpened(item: { readonly kind: string }): item is OpenedItem {
  return item.kind === 'item'
}
