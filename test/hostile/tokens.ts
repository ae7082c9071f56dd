// Claim 1: a token makes one cluster, whatever its thief does, and a second claimant changes nothing that works.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { admitCluster, createInvite } from '../../src/core/trust/author/join.ts'
import type { ClusterName } from '../../src/core/model/values.ts'
import { encodeInviteToken } from '../../src/core/trust/invite-token.ts'
import type { Identity } from '../../src/io/store/store.ts'
import { serviceIp } from '../demo/checks.ts'
import type { Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { credentialFor, crypto, redeem, textOf, type Ended, type Redeemed } from './attacker.ts'
import { service, state, values } from './forgery.ts'
import type { TrustAnswer } from '../../src/api/trust-answers.ts'
import { ask, type HostileMember, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']

export function tokenClaims(world: () => World): void {
  describe('a token', () => {
    /** Admitted before edge, so that an admission that it signs can come before edge's in the order of claimants. */
    let sponsor: HostileMember
    let edgeToken: string

    before(async function () {
      sponsor = await world().member('mallory')
      edgeToken = await world().joins('edge')
    })

    after(() => world().dismiss())

    it('of a living cluster is of no use to a thief: at no door, by no clock, not after a restart', async () => {
      const thief = redeem(edgeToken)
      const attacker = await world().attacker(thief)
      await world().unharmed(ALL, async () => {
        for (const clock of [-60_000, -1, 0, 3_600_000])
          for (const door of ALL)
            assert.equal(codeOf(await attacker.knock(world().door(door), thief, Date.now() + clock)), 'used')
      })
      for (const at of ALL)
        await world().told(at, { kind: 'refused', of: attacker, reason: /^handshake used/ })
      for (const restarted of ['west', 'east'] as const) {
        await world().restart(restarted)
        assert.equal(
          codeOf(await attacker.knock(world().door(restarted), thief, Date.now() - 60_000)),
          'used'
        )
      }
      for (const at of ALL) await world().settled(at, ALL)
    })

    it('that two redeem at one moment at one door admits one of them', async () => {
      const token = await world().invite('twins')
      const keys = [redeem(token), redeem(token)]
      const ends = await Promise.all(
        keys.map(async (one) => (await world().attacker(one)).knock(world().door('west'), one))
      )
      assert.deepEqual(ends.map(codeOf).toSorted(), ['admitted', 'used'])
    })

    it('that two redeem at one moment at two doors: both stand or one is refused, and each agent follows one', async () => {
      const token = await world().invite('pair')
      const keys = [redeem(token), redeem(token)]
      const doors = ['west', 'east'] as const
      const attackers = await Promise.all(keys.map((one) => world().attacker(one)))
      const ends = await Promise.all(
        keys.map((one, at) => attackers[at]!.knock(world().door(doors[at]!), one))
      )
      assert.ok(
        ends.every((end) => codeOf(end) === 'admitted' || codeOf(end) === 'used'),
        ends.map(textOf).join(' / ')
      )
      const winners = ends.flatMap((end, at) => (end.kind === 'admitted' ? [{ at, end }] : []))
      assert.ok(winners.length > 0)
      for (const { at, end } of winners) {
        const [attacker, keyed] = [attackers[at]!, keys[at]!]
        await attacker.enter(world().door(doors[at]!), credentialFor(keyed, end.bytes, attacker.seed))
      }
      for (const at of ALL) {
        const { clusters } = await ask<TrustAnswer>(world().agent(at), 'trust')
        assert.equal(clusters.filter(({ name, hasName }) => name === 'pair' && hasName).length, 1)
      }
    })

    it('that a lying member redeems once more for a thief: both stay, contested, and the name and prefixes stay where they were', async () => {
      const thief = redeem(edgeToken)
      const { roots } = thief
      const admission = admitCluster(
        { crypto, roots },
        {
          certItem: thief.certItem,
          sponsorSeed: sponsor.redeemed.clusterSeed,
          seen: seenOf(sponsor) + 1,
          time: 0
        }
      )
      const attacker = await world().attacker(thief)
      const credential = credentialFor(thief, admission.item, attacker.seed)
      await world().unharmed(ALL, async () => {
        for (const door of ALL) {
          await attacker.enter(world().door(door), credential)
          const content = { 'svc/shop/web': service('10.103.6.6') }
          for (const frame of state({ seed: attacker.seed, roots }, values(content), { credential }))
            attacker.send(world().door(door), frame)
        }
      })
      for (const restarted of ['west', 'edge'] as const) {
        await world().restart(restarted)
        for (const at of ALL) await world().settled(at, ALL)
        assert.deepEqual(await world().names('west', 'edge'), [serviceIp.edge])
        assert.deepEqual(await world().names('edge', 'edge'), [serviceIp.edge])
      }
      const door = world().door('east')
      assert.ok(attacker.isConnected(door), attacker.turnedAway(door))
      for (const at of ALL) {
        const { contested, clusters } = await ask<TrustAnswer>(world().agent(at), 'trust')
        assert.ok(
          contested.some(({ what, value }) => what === 'name' && value === 'edge'),
          `${at} does not show that edge is contested: ${JSON.stringify(contested)}`
        )
        const owner = clusters.find(({ name, hasName }) => name === 'edge' && hasName)
        assert.notEqual(owner?.key, keyOf(thief))
      }
    })

    it('that is contested is settled by one decision, and the one that it passes over keeps nothing', async () => {
      const { clusters } = await ask<TrustAnswer>(world().agent('west'), 'trust')
      const honest = clusters.find(({ name, hasName }) => name === 'edge' && hasName)
      assert.ok(honest)
      await world().unharmed(ALL, async () => {
        await world().agent('west').done('decide', 'edge', honest.key)
        await eventually(async () => {
          for (const at of ALL) {
            const { contested } = await ask<TrustAnswer>(world().agent(at), 'trust')
            assert.ok(!contested.some(({ value, loser }) => value === 'edge' || loser === 'edge'))
          }
          return true
        })
      })
    })

    it('that has expired is refused, whatever clock its holder shows', async () => {
      const token = signedInvite(world(), { cluster: 'late', notBefore: -7200, notAfter: -3600 })
      const late = redeem(token)
      const attacker = await world().attacker(late)
      for (const clock of [0, -5_400_000])
        for (const door of ALL)
          assert.equal(codeOf(await attacker.knock(world().door(door), late, Date.now() + clock)), 'expired')
      await world().told('east', { kind: 'refused', of: attacker, reason: /^handshake expired/ })
    })

    it('that has expired is of no use by a member that relays what was never admitted', async () => {
      const late = redeem(signedInvite(world(), { cluster: 'later', notBefore: -7200, notAfter: -3600 }))
      const relay = await world().sibling(sponsor, 'east')
      const seed = crypto.random(32)
      // The certificate in the place of an admission: no agent can stand on it, so the credential is signed onto another cluster's item.
      const frames = state({ seed, roots: late.roots }, values({ 'svc/shop/web': service('10.66.0.1') }), {
        credential: late.certItem
      })
      for (const frame of frames) relay.attacker.send(world().door('east'), frame)
      await world().told('east', { kind: 'refused', of: relay.attacker, cluster: 'mallory' })
      assert.deepEqual(await world().names('east', 'later'), [])
    })

    it('that was cancelled is refused', async () => {
      const first = redeem(await world().invite('gone'))
      // A second token for a name takes the first one back.
      await world().invite('gone')
      const attacker = await world().attacker(first)
      for (const door of ALL)
        assert.equal(codeOf(await attacker.knock(world().door(door), first)), 'cancelled')
      await world().told('edge', { kind: 'refused', of: attacker, reason: /^handshake cancelled/ })
    })
  })
}

export function codeOf(ended: Ended): string {
  return ended.kind === 'refused' ? ended.code : ended.kind
}

/** The key of a cluster, as statements name it. */
export function keyOf({ clusterSeed }: Pick<Redeemed, 'clusterSeed'>): string {
  return Buffer.from(crypto.publicKeyOf(clusterSeed)).toString('hex')
}

/** The place of a cluster's admission. */
function seenOf({ attacker, redeemed }: HostileMember): number {
  const opened = attacker.members.set.admissions
  const key = keyOf(redeemed)
  const found = [...opened.values()].find(({ statement }) => statement.clusterKey === key)
  assert.ok(found, 'the admission of the sponsor is not known')
  return found.statement.seen
}

/** A token that west's administrator has signed for any time; `notBefore` and `notAfter` are seconds from now. */
export function signedInvite(
  world: World,
  {
    cluster,
    notBefore,
    notAfter
  }: { readonly cluster: string; readonly notBefore: number; readonly notAfter: number }
): string {
  const { roots, doors } = redeem(world.tokens[0] ?? '')
  const { seats } = identityOf(world, 'west')
  const [seat] = seats ?? []
  assert.ok(seat)
  const nowSeconds = Math.floor(Date.now() / 1000)
  const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'))
  const { item, inviteSeed } = createInvite(
    { crypto, roots },
    {
      seatItem: bytes(seat.seatItem),
      adminSeed: bytes(seat.adminSeed),
      cluster: cluster as ClusterName,
      pods: ['10.66.0.0/16' as never],
      services: ['10.166.0.0/16' as never],
      namespaces: [],
      notBefore: nowSeconds + notBefore,
      notAfter: nowSeconds + notAfter
    }
  )
  return encodeInviteToken(crypto, { roots, inviteItem: item, inviteSeed, bootstrap: doors })
}

/** The secrets of an honest agent, which the thief of its disk would have. */
export function identityOf(world: World, cluster: Cluster): Identity {
  const text = readFileSync(join(world.folder, cluster, 'state/identity.json'), 'utf8')
  return (JSON.parse(text) as { identity: Identity }).identity
}
