// The archive as GNU tar reads it, its bounds, and what it says of what is not in it.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Gathering, type Contents } from '../../../src/cli/bundle/gather.ts'
import { tarOf } from '../../../src/cli/bundle/tar.ts'

const MADE_MS = Date.UTC(2026, 10, 23, 4, 12, 11)

describe('the files of a bundle', () => {
  let folder: string

  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'rhizome-gather-'))))
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  function unpack(archive: Uint8Array): void {
    const file = join(folder, 'x.tar.gz')
    writeFileSync(file, archive)
    execFileSync('tar', ['-xzf', file, '-C', folder])
  }

  const contentsOf = (): Contents => JSON.parse(readFileSync(join(folder, 'b/contents.json'), 'utf8'))

  it('are as they were added, and contents.json lists them', () => {
    const gathering = new Gathering()
    // Lengths around a block of 512 bytes.
    const sizes = [0, 1, 511, 512, 513, 5000]
    for (const size of sizes) gathering.add(`a/${size}.txt`, 'a text', '.'.repeat(size))
    gathering.miss('a/none.txt', 'there is none')
    const { archive, contents } = gathering.pack('b', MADE_MS)
    unpack(archive)
    for (const size of sizes)
      assert.equal(readFileSync(join(folder, `b/a/${size}.txt`), 'utf8'), '.'.repeat(size))
    assert.deepEqual(contentsOf(), contents)
    assert.deepEqual(contents.missing, [{ name: 'a/none.txt', reason: 'there is none' }])
    const list = execFileSync('tar', ['-tvzf', join(folder, 'x.tar.gz')], {
      encoding: 'utf8',
      env: { ...process.env, TZ: 'UTC' }
    })
    assert.match(list, /^-rw------- 0\/0 +513 2026-11-23 04:12 b\/a\/513\.txt$/m)
  })

  it('lose their end at a line where they are too long, and the number of bytes is named', () => {
    const gathering = new Gathering({ file: 1000, bundle: 10_000 })
    const line = `${'x'.repeat(20)} ä\n`
    gathering.add('long.txt', 'a text', line.repeat(50))
    const { archive, contents } = gathering.pack('b', MADE_MS)
    const [kept] = contents.files
    assert.deepEqual(kept, {
      name: 'long.txt',
      what: 'a text',
      bytes: 1000 - (1000 % 24),
      cutBytes: 1200 - 984
    })
    unpack(archive)
    assert.equal(readFileSync(join(folder, 'b/long.txt'), 'utf8'), line.repeat(41))
  })

  it('are left out by name where the whole is too large', () => {
    const gathering = new Gathering({ file: 1000, bundle: 2500 })
    for (const name of ['a', 'b', 'c', 'd']) gathering.add(name, 'a text', 'y y y\n'.repeat(160))
    const { contents } = gathering.pack('b', MADE_MS)
    assert.deepEqual(
      contents.files.map(({ bytes, cutBytes }) => [bytes, cutBytes]),
      [
        [960, undefined],
        [960, undefined],
        [576, 384]
      ]
    )
    assert.deepEqual(contents.missing, [
      { name: 'd', reason: 'the bundle has its greatest size, 2500 bytes' }
    ])
  })

  it('have no secret, neither in a text nor in a reason', () => {
    const secret = Buffer.from(Array.from({ length: 32 }, (_, index) => (index * 89 + 7) % 256)).toString(
      'base64'
    )
    const gathering = new Gathering()
    gathering.add('log.txt', 'a log', `oops ${secret}\n`)
    gathering.miss('x.txt', `cannot read ${secret}`)
    const { archive, contents } = gathering.pack('b', MADE_MS)
    assert.equal(contents.removed, 2)
    unpack(archive)
    for (const name of ['log.txt', 'contents.json'])
      assert.ok(!readFileSync(join(folder, 'b', name), 'utf8').includes(secret))
  })

  it('refuse a name that a tar header cannot hold', () => {
    for (const name of ['', 'a b', 'ä', 'x'.repeat(101), 'a\0b'])
      assert.throws(() => tarOf([{ name, content: new Uint8Array() }], 0), RangeError)
  })
})
