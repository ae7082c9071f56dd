import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import protobuf from 'protobufjs'
import { encodeFrame } from '../../src/core/wire.ts'
import { FAULTS, repeatCommand, storm, stormOfSeed } from './storm.ts'

const SEEDS = Number(process.env['SIM_SEEDS'] ?? 30)
const previous = protobuf.parse(readFileSync(new URL('previous.proto', import.meta.url), 'utf8'), {
  keepCase: true
}).root
const Frame = previous.lookupType('rhizome.mesh.v1.Frame')

describe('agents of this version and of the one before', function () {
  this.timeout(300_000)

  it('converge, whichever of them relays', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const options = stormOfSeed(seed, {
        faults: new Set(FAULTS.filter((fault) => fault !== 'twin')),
        filter: (agent, frame) => (agent % 2 === 0 ? frame : asPrevious(frame))
      })
      try {
        storm(options)
      } catch (cause) {
        throw new Error(`seed ${seed}, every second agent of the version before; ${repeatCommand(options)}`, {
          cause
        })
      }
    }
  })

  it('differ in fields that the one before drops', () => {
    const ping = encodeFrame({ ping: { id: 3, digest: 77 } })
    assert.deepEqual(asPrevious(ping), encodeFrame({ ping: { id: 3 } }))
    assert.equal(asPrevious(encodeFrame({ prune: { origins: ['x'] } })), undefined)
  })
})

/** The frame as an agent of the version before reads it, or writes it; undefined when it is none to it. */
function asPrevious(frame: Uint8Array): Uint8Array | undefined {
  const reader = new protobuf.Reader(frame)
  reader.discardUnknown = true
  const known = new Uint8Array(Frame.encode(Frame.decode(reader)).finish())
  return known.length === 0 ? undefined : known
}
