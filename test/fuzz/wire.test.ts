import assert from 'node:assert/strict'
import { decodeValue, encodeValue } from '../../src/core/wire/value-codec.ts'
import { FRAME_BYTES_MAX } from '../../src/core/wire/limits.ts'
import { keyOf } from '../../src/core/model/values.ts'
import * as wire from '../../src/core/wire/messages.ts'
import { BODIES, CREDENTIALS, FRAMES, HEADS, ITEMS, TOKENS, VALUES } from './corpus.ts'
import { budget, fuzz, single } from './fuzz.ts'
import { mutate, noise } from './mutate.ts'

const { wire: types, encodeMessage } = wire
const DECODERS = [
  ['Frame', wire.decodeFrame, types.Frame, FRAMES],
  ['Head', wire.decodeHead, types.Head, HEADS],
  ['SignedHead', wire.decodeSignedHead, types.SignedHead, FRAMES],
  ['Value', wire.decodeValueMessage, types.Value, VALUES.map(({ bytes }) => bytes)],
  ['StatementBody', wire.decodeStatementBody, types.StatementBody, BODIES],
  ['TrustItem', wire.decodeTrustItem, types.TrustItem, [...ITEMS, ...CREDENTIALS]],
  ['InviteToken', wire.decodeInviteToken, types.InviteToken, TOKENS]
] as const

describe('hostile messages', () => {
  for (const [name, decode, type, corpus] of DECODERS) {
    it(`${name}: is undefined, or a message whose encoding decodes to itself`, async function () {
      const { cases, timeoutMs } = budget(800)
      this.timeout(timeoutMs)
      let decoded = 0
      await fuzz(`decode${name}`, {
        ...single,
        cases,
        make: (random) => (random.chance(0.05) ? noise(random, random.below(300)) : mutate(random, corpus)),
        act: (bytes) => {
          const message = decode(bytes)
          if (message === undefined) return
          decoded++
          const again = encodeMessage<object>(type, message)
          // Broken UTF-8 becomes U+FFFD, which is longer.
          if (again.length > FRAME_BYTES_MAX) return
          const twice = decode(again)
          assert.ok(twice !== undefined, 'its own encoding is malformed')
          assert.deepEqual(encodeMessage<object>(type, twice), again)
        }
      })
      // Else the mutations are too crude to get anywhere.
      if (cases > 100) assert.ok(decoded > cases / 20, `only ${decoded} of ${cases} inputs were decodable`)
    })
  }

  it('a value is refused with a reason, or canonical, of its key, and without a character that a shell or zone minds', async function () {
    const { cases, timeoutMs } = budget(2000)
    this.timeout(timeoutMs)
    let taken = 0
    await fuzz('decodeValue', {
      cases,
      make: (random) => {
        const bytes = mutate(
          random,
          VALUES.map((value) => value.bytes)
        )
        return { key: random.pick(VALUES).key, bytes }
      },
      bytesOf: ({ key, bytes }) => [new TextEncoder().encode(key), bytes],
      act: ({ key, bytes }) => {
        for (const each of [key, ...VALUES.map((value) => value.key)]) {
          const decoded = decodeValue(each, bytes)
          if (decoded.kind === 'invalid') {
            assert.ok(decoded.reason.length > 0)
            continue
          }
          taken++
          const { value } = decoded
          assert.equal(keyOf(value), each)
          assert.deepEqual(decodeValue(each, encodeValue(value)), decoded)
          for (const text of stringsOf(value)) assert.match(text, /^[A-Za-z0-9 .:/[\]_+=-]*$/)
        }
      }
    })
    if (cases > 100) assert.ok(taken > cases / 20, `only ${taken} of ${cases} values were taken`)
  })
})

function stringsOf(value: unknown): readonly string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value).flatMap(stringsOf)
}
