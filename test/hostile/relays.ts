// Claims about west as a relay (setting relay-rate): what a member can make it send, to whom and in whose name.
import assert from 'node:assert/strict'
import {
  askFrame,
  deliverFrame,
  keyTextOf,
  readRelayFrame,
  sendFrame
} from '../../src/core/host/relay-frame.ts'
import { eventually } from '../eventually.ts'
import { originOfDoor, type Attacker } from './attacker.ts'
import { SCALE, type World } from './world.ts'

const CLUSTERS = ['west', 'east', 'edge'] as const

/** A datagram with the form of WireGuard's data, told apart by its last byte. */
function datagram(mark: number, bytes = 96): Uint8Array {
  const made = new Uint8Array(bytes)
  made[0] = 4
  made[bytes - 1] = mark
  return made
}

const keyOf = ({ origin }: Pick<Attacker, 'origin'>) => {
  const key = keyTextOf(origin)
  assert.ok(key)
  return key
}

/** What arrives at a member: the key that the relay names, and the mark of the datagram; `ready` of another frame. */
function arrivals(at: Attacker): string[] {
  const seen: string[] = []
  at.onRelayed = (bytes) => {
    const frame = readRelayFrame(bytes)
    if (frame?.kind === 'ready') seen.push('ready')
    else if (frame?.kind === 'deliver') seen.push(`${frame.other}${frame.datagram.at(-1)}`)
    else seen.push('another frame')
  }
  return seen
}

export function relayClaims(world: () => World): void {
  describe('a relay', () => {
    const west = (): string => world().door('west')
    const send = (from: Attacker, frame: Uint8Array) =>
      from.transport.sendRelayed(originOfDoor(west()), frame)
    afterEach(() => world().dismiss())

    it('sends a member nothing for which it did not ask, and names the one that tried', async () => {
      await world().complete()
      const [one, victim] = [await world().member('relay-a'), await world().member('relay-b')]
      const seen = arrivals(victim.attacker)
      await world().unharmed(CLUSTERS, async () => {
        send(one.attacker, askFrame(keyOf(victim.attacker)))
        for (let count = 0; count < 100 * SCALE; count++)
          send(one.attacker, sendFrame(keyOf(victim.attacker), datagram(1)))
        await world().told('west', {
          kind: 'refused',
          of: one.attacker,
          cluster: 'relay-a',
          reason: /^relay frame refused because it sends datagrams for an agent that does not ask/
        })
      })
      assert.deepEqual(seen, [])
    })

    it('names the agent whose connection brought a datagram, and takes none in the name of another', async () => {
      const [one, other, third] = [
        await world().member('relay-c'),
        await world().member('relay-d'),
        await world().member('relay-e')
      ]
      const seen = arrivals(other.attacker)
      send(other.attacker, askFrame(keyOf(one.attacker)))
      // The third member speaks for the first: as one that delivers, and to an agent that asks for another one.
      send(third.attacker, deliverFrame(keyOf(one.attacker), datagram(3)))
      send(third.attacker, askFrame(keyOf(other.attacker)))
      send(third.attacker, sendFrame(keyOf(other.attacker), datagram(3)))
      await eventually(() => {
        send(one.attacker, askFrame(keyOf(other.attacker)))
        send(one.attacker, sendFrame(keyOf(other.attacker), datagram(1)))
        return seen.some((each) => each !== 'ready')
      })
      const reason = /^relay frame refused because it delivers datagrams for which this agent did not ask it/
      await world().told('west', { kind: 'refused', of: third.attacker, cluster: 'relay-e', reason })
      assert.deepEqual(
        [...new Set(seen)].filter((each) => each !== 'ready'),
        [`${keyOf(one.attacker)}1`]
      )
    })

    it('takes no frame that is too long, of another form, or for a stranger, and none of a stranger', async () => {
      const [one, victim] = [await world().member('relay-f'), await world().member('relay-g')]
      const stranger = await world().attacker(one.redeemed)
      const seen = arrivals(victim.attacker)
      send(victim.attacker, askFrame(keyOf(stranger)))
      send(victim.attacker, askFrame(keyOf(one.attacker)))
      const told = (reason: RegExp, of = one.attacker, cluster = 'relay-f') =>
        world().told('west', { kind: 'refused', of, cluster, reason })
      await world().unharmed(CLUSTERS, async () => {
        await told(
          /^relay frame refused because it asks for an agent that is no member/,
          victim.attacker,
          'relay-g'
        )
        send(one.attacker, Uint8Array.of(9, 9, 9))
        await told(/^relay frame refused because it is none/)
        send(one.attacker, sendFrame(keyOf(victim.attacker), datagram(1, 100_000)))
        await told(/^relay frame refused because it is longer than \d+ bytes/)
        // A peer that has proved its key, and is no member.
        await stranger.dial(west())
        stranger.transport.setAuthenticated(originOfDoor(west()))
        for (let count = 0; count < 20; count++) {
          send(stranger, askFrame(keyOf(victim.attacker)))
          send(stranger, sendFrame(keyOf(victim.attacker), datagram(2)))
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
      })
      assert.deepEqual(seen, [])
    })

    it('passes a flood within a pair on at its rate, and answers everyone else', async () => {
      const [one, other] = [await world().member('relay-h'), await world().member('relay-i')]
      const seen = arrivals(other.attacker)
      const asks = setInterval(() => {
        send(one.attacker, askFrame(keyOf(other.attacker)))
        send(other.attacker, askFrame(keyOf(one.attacker)))
      }, 500)
      try {
        await world().unharmed(CLUSTERS, async () => {
          await eventually(() => seen.includes('ready'))
          const endMs = performance.now() + 3_000 * Math.min(SCALE, 5)
          const beganMs = performance.now()
          seen.length = 0
          while (performance.now() < endMs) {
            for (let count = 0; count < 100; count++)
              send(one.attacker, sendFrame(keyOf(other.attacker), datagram(1, 1_200)))
            await new Promise((resolve) => setTimeout(resolve, 5))
          }
          const seconds = (performance.now() - beganMs) / 1000
          // 8 Mbit/s are 1 MB a second; one window more may pass.
          assert.ok(seen.length * 1_200 < 1e6 * (seconds + 0.5), `${seen.length} in ${seconds} s`)
          assert.ok(seen.length > 0)
        })
      } finally {
        clearInterval(asks)
      }
    })
  })
}
