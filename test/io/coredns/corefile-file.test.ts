import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { WRITTEN_BY } from '../../../src/core/coredns/corefile.ts'
import { putCorefile, tellCoredns } from '../../../src/io/coredns/corefile-file.ts'

const ONE = `${WRITTEN_BY}\n.:53 {\n    errors\n}\n`
const TWO = `${WRITTEN_BY}\n.:53 {\n    log\n}\n`

describe('the file of a Corefile', () => {
  let folder: string
  let path: string

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'corefile-'))
    path = join(folder, 'Corefile')
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  it('is made, readable for all, and replaced when its text changes only', async () => {
    assert.equal(await putCorefile(path, ONE), true)
    assert.equal(statSync(path).mode & 0o777, 0o644)
    const { ino } = statSync(path)
    assert.equal(await putCorefile(path, ONE), false)
    assert.equal(statSync(path).ino, ino)
    assert.equal(await putCorefile(path, TWO), true)
    assert.equal(readFileSync(path, 'utf8'), TWO)
    assert.deepEqual(readdirSync(folder), ['Corefile'])
  })

  it('is whole for a reader that has it open while it is replaced', async () => {
    await putCorefile(path, ONE)
    const reader = openSync(path, 'r')
    try {
      await putCorefile(path, TWO)
      assert.equal(readFileSync(reader, 'utf8'), ONE)
    } finally {
      closeSync(reader)
    }
  })

  it('is written over what a crash left of an earlier one', async () => {
    writeFileSync(`${path}.new`, 'half of it')
    writeFileSync(path, '')
    await putCorefile(path, ONE)
    assert.deepEqual(readdirSync(folder), ['Corefile'])
  })

  it('is left alone when it is somebody else’s', async () => {
    writeFileSync(path, '. {\n    forward . 10.0.0.1\n}\n')
    await assert.rejects(putCorefile(path, ONE), {
      name: 'FeedError',
      code: 'COREFILE_FOREIGN',
      message: new RegExp(path)
    })
    assert.match(readFileSync(path, 'utf8'), /10\.0\.0\.1/)
  })

  it('says why it cannot be written: no folder, a folder in its place', async () => {
    mkdirSync(path)
    for (const bad of [join(folder, 'nosuch', 'Corefile'), path]) {
      await assert.rejects(putCorefile(bad, ONE), {
        name: 'FeedError',
        code: 'COREFILE_UNWRITABLE',
        message: new RegExp(bad),
        fix: /set corefile to another path/
      })
    }
    assert.deepEqual(readdirSync(folder), ['Corefile'])
  })
})

describe('the signal to CoreDNS', () => {
  let folder: string
  let pidFile: string

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'corefile-'))
    pidFile = join(folder, 'pid')
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  it('never goes to a program that only has the number', async () => {
    const other = spawn('sleep', ['60'])
    try {
      await once(other, 'spawn')
      writeFileSync(pidFile, `${other.pid}\n`)
      assert.equal(await tellCoredns(pidFile), false)
      // One that had been signalled would not come to take this.
      other.kill('SIGTERM')
      const [, signal] = (await once(other, 'exit')) as [number | null, string | null]
      assert.equal(signal, 'SIGTERM')
    } finally {
      other.kill('SIGKILL')
    }
  })

  it('is not missed where no CoreDNS runs: it will read the file at its start', async () => {
    assert.equal(await tellCoredns(pidFile), false)
    for (const text of ['', 'no number', '-1', '0', '1', '4194305', '99999999999999999999']) {
      writeFileSync(pidFile, text)
      assert.equal(await tellCoredns(pidFile), false, text)
    }
  })

  it('says so where the pid file cannot be read', async () => {
    mkdirSync(pidFile)
    await assert.rejects(tellCoredns(pidFile), { name: 'FeedError', code: 'COREDNS_NOT_TOLD' })
  })
})
