import assert from 'node:assert/strict'
import { base64url } from 'multiformats/bases/base64'
import { createTrustStore } from '../../src/core/trust/trust-store.ts'
import { verifyChain } from '../../src/core/trust/chain.ts'
import {
  createHandshake,
  DOOR_FRAME_BYTES_MAX,
  type Handshake,
  type HandshakeStep
} from '../../src/core/trust/handshake.ts'
import { decodeToken } from '../../src/core/trust/token.ts'
import { decodeFrame } from '../../src/core/wire/messages.ts'
import {
  AGENTS,
  CHAINS,
  crypto,
  east,
  FRAMES,
  INVITES,
  mesh,
  north,
  NOW,
  TOKEN_TEXTS,
  TOKENS,
  west
} from './corpus.ts'
import { base64, budget, fuzz, single } from './fuzz.ts'
import { changeBytes, concat, mutate } from './mutate.ts'

const { meshId } = mesh

describe('hostile certificates', () => {
  it('a chain is accepted only as it was signed, to the byte', async function () {
    const { cases, timeoutMs } = budget(1500)
    this.timeout(timeoutMs)
    const genuine = new Set(AGENTS.map(({ chain }) => base64(chain.bytes)))
    let whole = 0
    await fuzz('verifyChain', {
      ...single,
      cases,
      make: (random) => mutate(random, CHAINS),
      act: (bytes) => {
        const chain = verifyChain(bytes, { crypto, meshId, upTo: 'AGENT' })
        const trustStore = createTrustStore({ crypto, meshId })
        const { agentOrigin } = east.chain
        const admitted = trustStore.admit(agentOrigin, bytes).kind === 'admitted'
        if (chain.kind === 'refused') {
          if (/signature|issued/.test(chain.reason)) whole++
          assert.ok(!admitted && !trustStore.isAdmitted(agentOrigin), 'admitted what is refused')
          return
        }
        assert.ok(genuine.has(base64(bytes)), 'accepted what nobody signed')
        assert.equal(admitted, chain.agentOrigin === agentOrigin)
      }
    })
    if (cases > 100) assert.ok(whole > 0, 'no mutation got as far as a signature')
  })

  it('a token is accepted only with an invite as it was signed, and its own secret', async function () {
    const { cases, timeoutMs } = budget(1000)
    this.timeout(timeoutMs)
    const invites = new Map(INVITES.map(({ chain, inviteSeed }) => [base64(chain.bytes), base64(inviteSeed)]))
    await fuzz('decodeToken', {
      cases,
      make: (random) => {
        if (random.chance(0.2)) {
          const text = new TextEncoder().encode(random.pick(TOKEN_TEXTS))
          return String.fromCharCode(...changeBytes(random, text, text))
        }
        // Past the checksum, which guards against typing, not against people.
        const body = mutate(random, TOKENS, 16_000)
        const sum = crypto.sha256(body).subarray(0, 4)
        return `rzm1_${base64url.encoder.baseEncode(concat(body, sum))}`
      },
      bytesOf: (text) => [new TextEncoder().encode(text)],
      act: (text) => {
        const token = decodeToken(text, { crypto, nowSeconds: NOW, meshId: undefined })
        if (token.kind === 'refused') {
          assert.ok(token.message !== '' && token.fix !== '')
          return
        }
        assert.equal(invites.get(base64(token.invite.bytes)), base64(token.inviteSeed))
        for (const address of token.bootstrap)
          assert.match(address, /^[/A-Za-z0-9._:%-]+\/p2p\/12D3KooW[A-Za-z0-9]+$/)
      }
    })
  })

  it('the door lets nobody in whose certificate and proof are not those of the connection', async function () {
    const { cases, timeoutMs } = budget(300)
    this.timeout(timeoutMs)
    await fuzz('handshake', {
      cases,
      make: (random) => {
        // What east says to this door, sound; then some of it changed, moved, repeated or replaced.
        const door = open(west, east)
        const guest = open(east, west)
        const [hello] = guest.start()
        const [doorHello] = door.start()
        assert.ok(hello !== undefined && doorHello !== undefined)
        const [proof] = guest.receive(doorHello, NOW * 1000).send
        assert.ok(proof !== undefined)
        const sound = [hello, proof]
        const frames = Array.from({ length: 1 + random.below(4) }, (_, index) => {
          if (random.chance(0.4)) return sound[index] ?? random.pick(sound)
          if (random.chance(0.2)) return random.pick(FRAMES)
          return mutate(random, [...sound, random.pick(FRAMES)], DOOR_FRAME_BYTES_MAX + 100)
        })
        return { door, sound, frames }
      },
      bytesOf: ({ frames }) => frames,
      act: ({ door, sound, frames }) => {
        let ended = false
        const seen: Uint8Array[] = []
        for (const frame of frames) {
          const step: HandshakeStep = door.receive(frame, NOW * 1000)
          seen.push(frame)
          if (ended)
            assert.ok(step.send.length === 0 && step.outcome === undefined, 'it goes on after its end')
          for (const sent of step.send) assert.ok(decodeFrame(sent) !== undefined)
          const { outcome } = step
          if (outcome === undefined) continue
          ended = true
          if (outcome.kind === 'refused') continue
          assert.equal(base64(outcome.chain.bytes), base64(east.chain.bytes))
          const [hello, proof] = seen.slice(-2).map((each) => decodeFrame(each))
          const [soundHello, soundProof] = sound.map((each) => decodeFrame(each))
          assert.deepEqual(hello?.hello?.nonce, soundHello?.hello?.nonce)
          assert.deepEqual(proof?.proof?.signature, soundProof?.proof?.signature)
        }
      }
    })
  })

  function open(self: typeof west, remote: typeof west): Handshake {
    const { agentOrigin: origin, bytes: chain } = self.chain
    const trustStore = createTrustStore({ crypto, meshId })
    for (const agent of [self, north]) trustStore.add(agent.chain)
    return createHandshake({
      crypto,
      self: { origin, seed: self.seed, meshId, chain, software: 'fuzz' },
      remote: remote.chain.agentOrigin,
      trustStore,
      initiator: false,
      nowMs: NOW * 1000
    })
  }
})
