// Claim 6: votes of a hostile member withdraw nothing, and leave the failure detector as it was.
import assert from 'node:assert/strict'
import type { PeersAnswer, RoutesAnswer } from '../../src/api/answers.ts'
import type { Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { originOfDoor } from './attacker.ts'
import { vote } from './forgery.ts'
import { ask, type HostileMember, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']
const INCARNATIONS = [0, 1, Date.now(), Date.now() + 1e12, 2 ** 52 - 1, 2 ** 52]

export function voteClaims(world: () => World): void {
  describe('votes', () => {
    let member: HostileMember

    before(async () => {
      await world().complete()
      member = await world().member('voter')
    })

    after(() => world().dismiss())

    it('of three hostile agents that honest ones are dead, of any incarnation, withdraw nothing', async () => {
      const voters = [member, await world().sibling(member, 'west'), await world().sibling(member, 'west')]
      await world().unharmed(ALL, async () => {
        for (const incarnation of INCARNATIONS)
          for (const victim of ALL)
            for (const { attacker, redeemed } of voters)
              attacker.send(
                world().door('west'),
                vote(
                  { seed: attacker.seed, roots: redeemed.roots },
                  originOfDoor(world().door(victim)),
                  incarnation
                )
              )
        await world().settled('east', ALL)
      })
    })

    it('of honest agents count as before: edge is found dead when it is', async () => {
      await world().dismiss()
      const { pid } = world().agent('edge')
      assert.ok(pid)
      const edge = originOfDoor(world().door('edge'))
      process.kill(pid, 'SIGSTOP')
      try {
        await eventually(async () => {
          for (const at of ['west', 'east'] as const) {
            const { peers } = await ask<PeersAnswer>(world().agent(at), 'peers')
            const reason = peers.find(({ peerId }) => peerId === edge)?.reason ?? ''
            assert.match(reason, /no other member has one/)
          }
          return true
        }, 20_000)
        // Fail static: what is replicated stays.
        for (const at of ['west', 'east'] as const) {
          assert.equal((await world().names(at, 'edge')).length, 1)
          await ask<RoutesAnswer>(world().agent(at), 'routes')
        }
      } finally {
        process.kill(pid, 'SIGCONT')
      }
      for (const at of ALL) await world().settled(at, ALL)
    })
  })
}
