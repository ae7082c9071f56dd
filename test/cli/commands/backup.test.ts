// `meshctl backup`: what it writes to the disk, and what it sends.
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { meshctl, startFakeMeshd, type FakeMeshd, type Run } from '../fake-meshd.ts'
import * as samples from '../samples.ts'

const TEXT = '{\n  "kind": "rhizome backup"\n}\n'
const MADE = {
  file: TEXT,
  check: '0123456789abcdef',
  cluster: 'west',
  meshId: 'bafyreimesh',
  peerId: '12D3KooWwest',
  made: '2026-11-27T10:00:00.000Z',
  statements: 3,
  seats: 1,
  invites: 2,
  rootsHere: 0
}

describe('meshctl backup', () => {
  let fake: FakeMeshd
  let file: string
  let passphrase: string

  beforeEach(async () => {
    fake = await startFakeMeshd()
    fake.answer('/v1/backup/create', MADE)
    fake.answer('/v1/backup/restore', {
      ...samples.JOINED,
      cluster: 'west',
      made: MADE.made,
      formerPeerId: '12D3KooWformer',
      reached: true
    })
    ;[file, passphrase] = [join(fake.folder, 'west.backup'), join(fake.folder, 'pass')]
    writeFileSync(passphrase, 'correct horse battery staple\n')
  })
  afterEach(() => fake.stop())

  const cli = (...args: string[]): Promise<Run> => meshctl(['--socket', fake.socket, 'backup', ...args])
  const create = (...more: string[]) => cli('create', file, '--passphrase-file', passphrase, ...more)
  const left = () => readdirSync(fake.folder).filter((name) => name.includes('west.backup'))

  it('create writes the file for its owner only, and shows what is in it and not the text', async () => {
    const run = await create()
    assert.equal(run.code, 0, run.stderr)
    assert.equal(readFileSync(file, 'utf8'), TEXT)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    assert.deepEqual(left(), ['west.backup'])
    assert.deepEqual(fake.requests[0]?.body, { passphrase: 'correct horse battery staple' })
    assert.match(run.stdout, /^Wrote .*west\.backup \(SHA-256 begins with 0123456789abcdef\)\.\n/)
    assert.match(run.stdout, /Open invites +2/)
    assert.equal(run.stderr, '')
    const json = JSON.parse((await create('--force', '--json')).stdout) as typeof MADE
    assert.deepEqual([json.file, json.statements], [file, 3])
  })

  it('create says that the root keys are not in the file while they are on the agent', async () => {
    fake.answer('/v1/backup/create', { ...MADE, rootsHere: 2 })
    assert.match(
      (await create()).stderr,
      /The 2 root keys on this agent are not in the backup: run meshctl root export/
    )
  })

  it('create overwrites nothing without --force: neither a file, nor a folder, nor what a link leads to', async () => {
    writeFileSync(file, 'old')
    const refused = await create()
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /west\.backup exists, and is not overwritten\n +fix: .*--force/)
    assert.deepEqual(fake.requests, [], 'meshd is not asked')
    assert.equal(readFileSync(file, 'utf8'), 'old')
    assert.equal((await create('--force')).code, 0)
    assert.equal(readFileSync(file, 'utf8'), TEXT)
    file = join(fake.folder, 'link-west.backup')
    symlinkSync(join(fake.folder, 'nowhere'), file)
    assert.equal((await create()).code, 2)
    file = join(fake.folder, 'folder-west.backup')
    mkdirSync(file)
    for (const more of [[], ['--force']]) assert.equal((await create(...more)).code, 2)
    assert.deepEqual(left().toSorted(), ['folder-west.backup', 'link-west.backup', 'west.backup'])
  })

  it('create leaves nothing behind where it cannot write', async () => {
    file = join(fake.folder, 'missing', 'west.backup')
    const run = await create()
    assert.equal(run.code, 2)
    assert.match(run.stderr, /cannot write .*ENOENT/)
    assert.deepEqual(left(), [])
  })

  it('restore sends the file, and says what is left to do', async () => {
    writeFileSync(file, TEXT)
    const run = await cli('restore', file, '--passphrase-file', passphrase)
    assert.equal(run.code, 0, run.stderr)
    assert.deepEqual(fake.requests[0]?.body, { file: TEXT, passphrase: 'correct horse battery staple' })
    assert.match(run.stdout, /^Cluster west is back from the backup of 2026-11-27T10:00:00\.000Z\.\n/)
    assert.match(run.stderr, /meshctl revoke 12D3KooWformer/)
    assert.doesNotMatch(run.stderr, /No other member has answered/)
  })

  for (const [code, exit] of [
    ['PASSPHRASE_WRONG', 5],
    ['BACKUP_DAMAGED', 5],
    ['BACKUP_FOREIGN', 5],
    ['BACKUP_NEWER', 7],
    ['ALREADY_JOINED', 5]
  ] as const)
    it(`restore ends with ${exit} for ${code}`, async () => {
      writeFileSync(file, TEXT)
      fake.fail('/v1/backup/restore', 400, { code, message: 'no', fix: 'do' })
      assert.equal((await cli('restore', file, '--passphrase-file', passphrase)).code, exit)
    })

  it('restore names a file that it cannot read', async () => {
    const run = await cli('restore', file, '--passphrase-file', passphrase)
    assert.equal(run.code, 2)
    assert.match(run.stderr, /cannot read .*west\.backup: ENOENT/)
  })
})
