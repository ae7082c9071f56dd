// Hostile frames before authentication: at a member's door, and at a newcomer whose sponsor is hostile. Nothing may take
// longer than its size allows, throw, or let in what was not signed on this connection.
import assert from 'node:assert/strict'
import {
  ANSWER_FRAME_BYTES_MAX,
  decodeDoorFrame,
  DOOR_FRAME_BYTES_MAX,
  encodeGatewayAdmitted,
  encodeReject
} from '../../src/core/trust/door/frames.ts'
import { createGatewayRequest } from '../../src/core/trust/door/gateway-request.ts'
import type { Handshake } from '../../src/core/trust/door/handshake.ts'
import type { ClusterName } from '../../src/core/model/values.ts'
import { keyId } from '../../src/core/trust/set/ids.ts'
import { decodeFrame, encodeFrame } from '../../src/core/wire/messages.ts'
import { DoorWorld, keyOf, meet, NOW_MS, type Actor } from '../core/trust/door/door-world.ts'
import { base64, budget, fuzz, single } from './fuzz.ts'
import { mutate, noise } from './mutate.ts'

const world = new DoorWorld()
const seat = world.seat()
const west = world.found('west', ['10.1.0.0/16'])
const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'] })
const [atWest, atEast] = [world.member(west, [west, east]), world.member(east, [west, east])]
const invite = world.invite(seat, 'north', { pods: ['10.4.0.0/16'] })
const newcomer = world.newcomer(invite)
const admitted = world.admit(invite, west, 2, { seed: newcomer.clusterSeed })

const gatewayToken = {
  roots: world.roots,
  cluster: 'west' as ClusterName,
  clusterKey: keyOf(world, west.seed),
  seed: world.crypto.random(32)
}
const gatewayKey = world.crypto.publicKeyOf(gatewayToken.seed)
const gatewayAtWest = { ...atWest, gateways: new Set([keyId(gatewayKey)]) }
const gift = {
  clusterSeed: west.seed,
  item: west.item,
  bootstrap: [`/ip4/192.0.2.1/tcp/7946/p2p/${atWest.origin}`],
  generation: 3,
  realPrefixes: []
}
const KINDS = [
  'hello',
  'poorHello',
  'proof',
  'knock',
  'admitted',
  'gatewayKnock',
  'gatewayAdmitted',
  'reject',
  'malformed'
]

/** What two members say to each other, what a newcomer and its sponsor say, and refusals. */
const FRAMES: readonly Uint8Array[] = [
  ...talk(atEast, atWest),
  ...talk(newcomer, atWest),
  encodeFrame({ admitted: { item: admitted.item, sponsor: west.item } }),
  ...askGateway(),
  encodeGatewayAdmitted(gift),
  encodeReject({ code: 'used', detail: 'another key was admitted by this invite' }, [
    east.item,
    admitted.item
  ]),
  encodeReject({ code: 'barred', detail: 'it does not stand' }, [world.bar({ seat }, east).item])
]

describe('hostile frames at the door', () => {
  it('are decoded to bounded messages of the door, or are malformed', async function () {
    const { cases, timeoutMs } = budget(5000)
    this.timeout(timeoutMs)
    const kinds = new Map<string, number>()
    let gateways = 0
    await fuzz('decodeDoorFrame', {
      ...single,
      cases,
      make: (random) =>
        random.chance(0.05)
          ? noise(random, random.below(300))
          : mutate(random, FRAMES, ANSWER_FRAME_BYTES_MAX + 100),
      act: (bytes) => {
        const message = decodeDoorFrame(bytes, ANSWER_FRAME_BYTES_MAX)
        kinds.set(message.kind, (kinds.get(message.kind) ?? 0) + 1)
        if (message.kind === 'hello') {
          const { nonce, software, shows, trustHead } = message.hello
          const shown = shows.kind === 'gateway' ? shows.key : shows.item
          assert.ok(nonce.length === 32 && software.length <= 100 && shown.length <= bytes.length)
          if (shows.kind === 'gateway') {
            assert.equal(shown.length, 32)
            gateways++
          }
          assert.ok(trustHead === undefined || trustHead.root.length === 32)
        }
        if (message.kind === 'proof' || message.kind === 'knock' || message.kind === 'gatewayKnock')
          assert.equal(message.signature.length, 64)
        if (message.kind === 'gatewayAdmitted') {
          const { clusterSeed, bootstrap } = message
          assert.ok(clusterSeed.length === 32 && bootstrap.length <= 32)
          assert.ok(bootstrap.every(({ length }) => length <= 256))
        }
        if (message.kind === 'knock') assert.ok(message.clusterCert.length <= 1024)
        if (message.kind === 'reject') {
          assert.ok(new TextEncoder().encode(message.detail).length <= 300 && message.explain.length <= 4)
          assert.doesNotMatch(message.detail, /\p{Cc}|\p{Cf}/u)
        }
        if (message.kind === 'malformed') assert.ok(message.reason.length < 200)
      }
    })
    // Else the mutations are too crude to get anywhere.
    for (const kind of KINDS)
      if (cases > 1000) assert.ok((kinds.get(kind) ?? 0) > 0, `no input was a ${kind}`)
    if (cases > 1000) assert.ok(gateways > 0, 'no input was the Hello of a gateway')
  })

  it('let in only what was signed on this connection, and end the handshake once', async function () {
    const { cases, timeoutMs } = budget(600)
    this.timeout(timeoutMs)
    let reached = 0
    await fuzz('door', {
      cases,
      make: (random) => {
        // A member at the door, a newcomer at the door, or the door's answers at a newcomer.
        const side = random.pick(['member', 'newcomer', 'sponsor'] as const)
        const guest = side === 'member' ? atEast : newcomer
        const [dialler, door] = [
          world.open(guest, atWest.origin, true),
          world.open(atWest, guest.origin, false)
        ]
        const target = side === 'sponsor' ? dialler : door
        const sound = honest(dialler, door, side === 'sponsor')
        const frames = Array.from({ length: 1 + random.below(4) }, (_, at) => {
          if (random.chance(0.5)) return sound.frames[at] ?? random.pick(sound.frames)
          return mutate(random, [...sound.frames, random.pick(FRAMES)], DOOR_FRAME_BYTES_MAX + 100)
        })
        return { target, sound, frames }
      },
      bytesOf: ({ frames }) => frames,
      act: ({ target, sound, frames }) => {
        let ended = false
        // The first frames were taken while the honest ones were made: they must be the same.
        for (const [at, frame] of frames.entries()) {
          if (at < sound.given) {
            if (base64(frame) !== base64(sound.frames[at] ?? frame)) return
            continue
          }
          reached++
          const { send, outcome } = target.receive(frame, NOW_MS)
          if (ended) assert.ok(send.length === 0 && outcome === undefined, 'it goes on after its end')
          for (const one of send) assert.ok(decodeFrame(one) !== undefined)
          if (outcome === undefined) continue
          // A knock waits for its answer, and any frame ends the handshake then.
          ended = outcome.kind !== 'knock'
          if (outcome.kind === 'accepted' || outcome.kind === 'knock')
            assert.deepEqual(decodeFrame(frame), decodeFrame(sound.frames[at] ?? new Uint8Array()))
          if (outcome.kind === 'admitted') assert.equal(base64(outcome.bytes), base64(admitted.item))
        }
      }
    })
    if (cases > 100) assert.ok(reached > cases / 10, `only ${reached} frames got to the second step`)
  })
})

describe('hostile frames at the door of a gateway that keeps an invite', () => {
  it('give the key to none but the holder of the token, and give a new gateway no other key', async function () {
    const { cases, timeoutMs } = budget(600)
    this.timeout(timeoutMs)
    let reached = 0
    await fuzz('gateway door', {
      cases,
      make: (random) => {
        const { request, door } = openGateway()
        const hello = request.start()
        const answers = hello.flatMap((frame) => door.receive(frame, NOW_MS).send)
        const [proof] = answers.slice(1)
        const knocks = answers.flatMap((frame) => request.receive(frame).send)
        const toDoor = random.chance(0.5)
        const sound = toDoor ? knocks : [encodeGatewayAdmitted(gift)]
        const pool = [...sound, ...hello, ...(proof === undefined ? [] : [proof]), random.pick(FRAMES)]
        const frame = random.chance(0.1)
          ? random.pick(pool)
          : mutate(random, random.chance(0.7) ? sound : pool, DOOR_FRAME_BYTES_MAX + 100)
        return { request, door, toDoor, sound, frame }
      },
      bytesOf: ({ frame }) => [frame],
      act: ({ request, door, toDoor, sound, frame }) => {
        reached++
        const { outcome } = toDoor ? door.receive(frame, NOW_MS) : request.receive(frame)
        if (outcome?.kind === 'gatewayKnock')
          assert.deepEqual(decodeFrame(frame), decodeFrame(sound[0] ?? new Uint8Array()))
        if (outcome?.kind === 'given') {
          assert.equal(base64(outcome.secret.clusterSeed), base64(west.seed))
          assert.equal(outcome.secret.membership.clusterKey, gatewayToken.clusterKey)
        }
        assert.notEqual(outcome?.kind, 'accepted')
      }
    })
    if (cases > 100) assert.ok(reached > cases / 2)
  })
})

/**
 * The frames that an honest peer sends to one of the sides, in order. They cover the answer of that side to the first
 * one, so `given` of them were taken by it while they were made.
 */
function honest(dialler: Handshake, door: Handshake, toDialler: boolean) {
  const [hello] = dialler.start()
  assert.ok(hello)
  const answers = door.receive(hello, NOW_MS).send
  const last = answers.flatMap((frame) => (toDialler ? [] : dialler.receive(frame, NOW_MS).send))
  return toDialler
    ? { frames: [...answers, encodeFrame({ admitted: { item: admitted.item } })], given: 0 }
    : { frames: [hello, ...last], given: 1 }
}

/** The request of one more gateway of west: its Hello, what the other one says, and its knock. */
function askGateway(): readonly Uint8Array[] {
  const { request, door } = openGateway()
  const hello = request.start()
  const answers = hello.flatMap((frame) => door.receive(frame, NOW_MS).send)
  return [...hello, ...answers, ...answers.flatMap((frame) => request.receive(frame).send)]
}

function openGateway() {
  const origin = world.originOf(world.crypto.random(32))
  const { crypto } = world
  const self = { origin, software: 'rhizome/test' }
  const request = createGatewayRequest({
    crypto,
    token: gatewayToken,
    self,
    remote: atWest.origin,
    nowMs: NOW_MS
  })
  return { request, door: world.open(gatewayAtWest, origin, false) }
}

/** Everything that two agents say, a knock that waits included. */
function talk(dialler: Actor, door: Actor): readonly Uint8Array[] {
  return meet(world.open(dialler, door.origin, true), world.open(door, dialler.origin, false)).sent.flat()
}
