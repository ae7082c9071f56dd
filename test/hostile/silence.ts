// Claim 4: who says nothing, reads nothing or delivers nothing keeps no place of an honest agent.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { ServicesAnswer } from '../../src/api/answers.ts'
import { encodeFrame } from '../../src/core/wire/messages.ts'
import type { Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { originOfDoor } from './attacker.ts'
import { claim } from './forgery.ts'
import { ask, SCALE, type HostileMember, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']
// As many as an agent accepts of strangers in all.
const SOCKETS = 256

export function silenceClaims(world: () => World): void {
  describe('a peer that is silent', () => {
    it(`with ${SOCKETS} sockets from as many addresses, half of them half open, stops neither a join nor a restart`, async () => {
      const siege = besiege(world().door('west'))
      try {
        await eventually(() => siege.count() > SOCKETS / 2)
        await world().complete()
        const newcomer = await world().member('late-comer')
        assert.ok(newcomer.attacker.isIn(world().door('west')))
        await world().restart('east')
        await world().settled('east', ALL)
        await world().settled('west', ALL)
      } finally {
        siege.end()
        await world().dismiss()
      }
    })

    it('about states that it claims to have, with two identities in turn, holds no change of others back', async () => {
      await world().complete()
      const first = await world().member('claimer')
      const claimers = [first, await world().sibling(first, 'west')]
      const origins = ALL.map((cluster) => originOfDoor(world().door(cluster)))
      let turn = 0
      const timer = setInterval(() => {
        const next = claimers[turn++ % 2]
        next?.attacker.send(world().door('west'), claim(origins))
      }, 100)
      try {
        await world().unharmed(ALL, async () => {
          for (let count = 0; count < 2 * SCALE; count++) await arrives(world(), 'east', `claimed-${count}`)
        })
      } finally {
        clearInterval(timer)
        await world().dismiss()
      }
    })

    it('and reads nothing of what it asks for costs no memory and no answer', async () => {
      await world().complete()
      const first = await world().member('sleeper')
      const sleepers: readonly HostileMember[] = [first, await world().sibling(first, 'west')]
      await world().unharmed(ALL, async () => {
        for (const { attacker } of sleepers) attacker.transport.pause(originOfDoor(world().door('west')))
        for (let round = 0; round < 40 * SCALE; round++) {
          for (const { attacker } of sleepers)
            for (const cluster of ALL) {
              const pull = { origin: originOfDoor(world().door(cluster)), epoch: 0, fromSeq: 0, window: 0 }
              attacker.send(world().door('west'), encodeFrame({ pull }))
            }
          await new Promise((resolve) => {
            setTimeout(resolve, 50)
          })
        }
        await arrives(world(), 'east', 'beside-sleepers')
      })
      await world().dismiss()
    })
  })
}

/** Sockets to an agent from different addresses of loopback: each second one says half of its first sentence. One that ends is opened again. */
function besiege(door: string): { count(): number; end(): void } {
  const port = Number(/\/tcp\/(\d+)/.exec(door)?.[1])
  const open = new Set<Socket>()
  let isOver = false
  const one = (index: number): void => {
    if (isOver) return
    const socket = connect({
      host: '127.0.0.1',
      port,
      localAddress: `127.${1 + (index % 250)}.${index % 199}.7`
    })
    socket.on('connect', () => {
      open.add(socket)
      if (index % 2 === 0) socket.write('\x13/multistream/1.')
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      open.delete(socket)
      setTimeout(() => one(index), 100)
    })
  }
  for (let index = 0; index < SOCKETS; index++) one(index)
  return {
    count: () => open.size,
    end() {
      isOver = true
      for (const socket of open) socket.destroy()
    }
  }
}

/** A new service of a cluster comes to the others. */
async function arrives(world: World, from: Cluster, name: string): Promise<void> {
  const text = `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { type: ExternalName, externalName: ${name}.example.org }
`
  // A namespace of its own would be compared by \`unharmed\`; the caller's services stay as they were.
  const path = join(world.agent(from).manifests, `${name}.yaml`)
  writeFileSync(path, text)
  await eventually(async () => {
    for (const at of ALL) {
      const { services } = await ask<ServicesAnswer>(world.agent(at), 'services')
      if (!services.some((row) => row.cluster === from && row.name === name)) return false
    }
    return true
  })
  writeFileSync(path, '')
  await eventually(async () => {
    for (const at of ALL) {
      const { services } = await ask<ServicesAnswer>(world.agent(at), 'services')
      if (services.some((row) => row.cluster === from && row.name === name)) return false
    }
    return true
  })
}
