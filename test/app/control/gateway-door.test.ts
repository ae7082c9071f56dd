// The request of a new gateway at the door of real control planes, spoken by agents that have no token: a stranger, a member,
// and one that has seen the public key of a token only.
import assert from 'node:assert/strict'
import type { ControlOptions, GatewayDoor } from '../../../src/app/control/control-options.ts'
import type { Control } from '../../../src/app/control/control.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import { encodeGatewayKnock, encodeHello } from '../../../src/core/trust/door/frames.ts'
import { PROTOCOL_VERSIONS } from '../../../src/core/trust/door/hello.ts'
import { keyId } from '../../../src/core/trust/set/ids.ts'
import { decodeFrame, type FrameMessage } from '../../../src/core/wire/messages.ts'
import { createTransport, type Transport } from '../../../src/io/p2p/transport.ts'
import { eventually } from '../../eventually.ts'
import { Controls, dial } from './controls.ts'

describe('the request of a gateway without its token', () => {
  let controls: Controls
  let door: Control
  let signed = 0
  let judged = 0
  const strangers: Transport[] = []
  const tokenKey = () => controls.world.crypto.publicKeyOf(new Uint8Array(32).fill(7))

  beforeEach(async () => {
    controls = new Controls()
    signed = judged = 0
    const { crypto } = controls.world
    const gateways: GatewayDoor = {
      knows: (key) => keyId(key) === keyId(tokenKey()),
      answer: async () => {
        judged++
        return { kind: 'reject', code: 'used', detail: 'used; ask', explain: [] }
      }
    }
    const counting: ControlOptions['crypto'] = {
      ...crypto,
      sign: (...parts) => {
        signed++
        return crypto.sign(...parts)
      }
    }
    door = await controls.startMember({ gateways, crypto: counting })
  })

  afterEach(async () => {
    await Promise.all(strangers.splice(0).map((each) => each.stop()))
    await controls.stop()
  })

  /** Connects a peer, sends a Hello with this key, and what `next` says to each answer. */
  async function ask(
    key: Uint8Array,
    next: (message: FrameMessage) => readonly Uint8Array[] = () => [],
    seed = controls.world.crypto.random(32)
  ) {
    const heard: FrameMessage[] = []
    let down = ''
    const { crypto, roots } = controls.world
    const transport = createTransport({
      seed,
      listen: [],
      handlers: {
        neighbourUp: (peer) => {
          const shows = { kind: 'gateway', key } as const
          transport.send(
            peer,
            encodeHello({
              ...PROTOCOL_VERSIONS,
              meshId: roots.meshId,
              nonce: crypto.random(32),
              unixSeconds: 0,
              software: 'hostile',
              shows,
              trustHead: undefined
            })
          )
        },
        frame: (peer, frame) => {
          const message = decodeFrame(frame)
          assert.ok(message)
          heard.push(message)
          for (const one of next(message)) transport.send(peer, one)
        },
        neighbourDown: (_, reason) => {
          down ||= reason
          transport.setTargets([])
        }
      }
    })
    strangers.push(transport)
    await transport.start()
    const addresses = door.transport.listenAddresses()
    transport.setTargets([{ origin: door.origin, addresses }])
    await eventually(() => down !== '')
    return { heard, origin: transport.origin }
  }

  const refusals = (of: Origin) =>
    door.events.rows().filter(({ kind, peerId }) => kind === 'refused' && peerId === of)

  it('of a stranger gets one refusal, is counted and told, and costs no signature and no decision', async () => {
    const before = signed
    const { heard, origin } = await ask(controls.world.crypto.random(32))
    assert.deepEqual(
      heard.map(({ reject }) => reject?.code),
      [13]
    )
    assert.equal(door.refusal(origin)?.code, 'cancelled')
    assert.equal(door.refusals.counts()['handshake cancelled'], 1)
    assert.equal(refusals(origin).length, 1)
    assert.deepEqual([signed - before, judged], [0, 0])
  })

  it('of one that knows the public key of a token costs one Proof, and gets nothing', async () => {
    const { heard, origin } = await ask(tokenKey(), ({ proof }) =>
      proof === null ? [] : [encodeGatewayKnock(new Uint8Array(64))]
    )
    assert.ok(heard.every(({ gatewayAdmitted }) => gatewayAdmitted === null))
    assert.equal(door.refusal(origin)?.code, 'proof')
    assert.equal(door.refusals.counts()['handshake proof'], 1)
    assert.equal(judged, 0)
  })

  it('of a member is an offence, and the member gets nothing', async () => {
    const member = await controls.startMember()
    await dial([member], door)
    // The last two neighbours are never banned, but read slowly.
    const others = [await controls.startMember(), await controls.startMember(), await controls.startMember()]
    await dial(others, door)
    // As with other frames that no honest agent sends: more than 30 within a minute end the connection.
    for (let at = 0; at < 40; at++) member.transport.send(door.origin, encodeGatewayKnock(new Uint8Array(64)))
    await eventually(() => door.isBanned(member.origin))
    assert.match(refusals(member.origin)[0]?.reason ?? '', /^request at the door by a member/)
    assert.equal(judged, 0)
  })
})
