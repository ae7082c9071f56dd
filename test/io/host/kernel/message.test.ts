// Messages of netlink: what was encoded is read again, and no bytes make the reader hang or throw.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  answersOf,
  attribute,
  attributesOf,
  frame,
  nested,
  textOf
} from '../../../../src/io/host/kernel/message.ts'

const values = fc.array(fc.tuple(fc.integer({ min: 0, max: 0x3fff }), fc.uint8Array({ maxLength: 40 })), {
  maxLength: 12
})

describe('messages of netlink', () => {
  it('are read as they were encoded, attributes in attributes too', () => {
    fc.assert(
      fc.property(values, fc.integer({ min: 0, max: 0xffff }), (list, type) => {
        const body = nested(
          7,
          list.map(([kind, value]) => attribute(kind, value))
        )
        const messages = Buffer.concat([
          frame({ type, flags: 3, sequence: 9, body }),
          frame({ type: 1, flags: 0, sequence: 10, body: Buffer.alloc(0) })
        ])
        const [first, second, ...rest] = answersOf(messages)
        assert.deepEqual([first?.type, first?.flags, first?.sequence, second?.sequence], [type, 3, 9, 10])
        assert.equal(rest.length, 0)
        const [outer, ...others] = attributesOf(first?.payload ?? Buffer.alloc(0))
        assert.deepEqual([outer?.[0], others.length], [7, 0])
        const found = [...attributesOf(outer?.[1] ?? Buffer.alloc(0))]
        assert.deepEqual(
          found.map(([kind, value]) => [kind, [...value]]),
          list.map(([kind, value]) => [kind, [...value]])
        )
      })
    )
  })

  it('end where a length does not fit', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const buffer = Buffer.from(bytes)
        assert.ok([...answersOf(buffer)].length <= bytes.length / 16)
        assert.ok([...attributesOf(buffer)].length <= bytes.length / 4)
        assert.ok(textOf(buffer).length <= bytes.length)
      })
    )
  })
})
