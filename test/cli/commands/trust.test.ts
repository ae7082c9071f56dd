// The commands of administrators: trust, admin, decide, root and the list of invites.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TrustAnswer } from '../../../src/api/trust-answers.ts'
import { meshctl, startFakeMeshd, type FakeMeshd, type Run } from '../fake-meshd.ts'

const KEY = '3f9c02d14b7a5e88'.repeat(4)

const TRUST: Omit<TrustAnswer, 'apiVersion'> = {
  meshId: 'bafyreimesh',
  roots: { k: 1, number: 1, held: 1, exported: false },
  seats: [],
  clusters: [],
  contested: [],
  invites: [],
  statements: []
}

describe('meshctl trust, admin, decide, root and invite list', () => {
  let fake: FakeMeshd

  beforeEach(async () => {
    fake = await startFakeMeshd()
    fake.answer('/v1/trust', TRUST)
    for (const path of ['/v1/admin/add', '/v1/admin/remove', '/v1/trust/decide'])
      fake.answer(path, { done: 'did it', neighbours: 2 })
  })
  afterEach(() => fake.stop())

  const cli = (...args: string[]): Promise<Run> => meshctl(['--socket', fake.socket, ...args])

  it('a key that is cut names the field, the form and where the key stands; meshd is not asked', async () => {
    for (const [args, expected] of [
      [
        ['admin', 'add', 'ann', '--key', '3f9c'],
        /^error: --key: "3f9c" is not a key, which has 64 hexadecimal digits\n {2}fix: .*`meshctl admin key`/
      ],
      [
        ['decide', 'east', '99'],
        /^error: key: "99" is not a key or its beginning, 8 to 64 hexadecimal digits\n {2}fix: .*`meshctl trust status`/
      ]
    ] as const) {
      const { code, stderr } = await cli(...args)
      assert.equal(code, 2)
      assert.match(stderr, expected)
    }
    assert.deepEqual(fake.requests, [])
    await cli('admin', 'add', 'ann', '--key', KEY.toUpperCase())
    await cli('decide', 'east', '3F9C02D1')
    assert.deepEqual(
      fake.requests.map(({ body }) => (body as { key: string }).key),
      [KEY, '3f9c02d1']
    )
  })

  it('admin remove sends --force only when it is given', async () => {
    await cli('admin', 'remove', 'ann')
    await cli('admin', 'remove', 'ann', '--force')
    assert.deepEqual(
      fake.requests.map(({ body }) => body),
      [
        { seat: 'ann', force: false },
        { seat: 'ann', force: true }
      ]
    )
  })

  it('-o json prints the part of the trust set that the command is about, and no other', async () => {
    for (const [args, part] of [
      ['invite list', 'invites'],
      ['admin list', 'seats'],
      ['root status', 'roots'],
      ['trust log', 'statements']
    ] as const) {
      const { stdout } = await cli(...args.split(' '), '-o', 'json')
      const { apiVersion: _, ...rest } = JSON.parse(stdout)
      assert.deepEqual(rest, { [part]: TRUST[part] }, args)
    }
  })

  it('-o name of an empty list prints nothing', async () => {
    for (const args of [
      ['invite', 'list'],
      ['admin', 'list'],
      ['trust', 'log']
    ])
      assert.equal((await cli(...args, '-o', 'name')).stdout, '', args.join(' '))
  })

  it('-o name without a table names the command as it was typed', async () => {
    const { code, stderr } = await cli('root', 'status', '-o', 'name')
    assert.equal(code, 2)
    assert.match(stderr, /^error: -o name: `meshctl root status` prints no table\n/)
  })

  it('root status says whether the keys are here, in a file, or both', async () => {
    for (const [held, exported, expected] of [
      [1, false, '1 of 1 sign; 1 here, in no file yet: run meshctl root export <file>'],
      [1, true, '1 of 1 sign; 1 here, and in a file; to remove them here: run meshctl root export <file>'],
      [0, true, '1 of 1 sign; none here']
    ] as const) {
      fake.answer('/v1/trust', { ...TRUST, roots: { k: 1, number: 1, held, exported } })
      assert.equal((await cli('root', 'status')).stdout, `Roots   ${expected}\n`)
    }
  })

  it('root status names the shares that are in no file, and the command for them', async () => {
    for (const [roots, expected] of [
      [
        { held: 3, exported: false, inFiles: [1] },
        '2 of 3 sign; 3 here, not yet in a file: 2, 3: run meshctl root export --share 2 <file>'
      ],
      [
        { held: 3, exported: true, inFiles: [1, 2, 3] },
        '2 of 3 sign; 3 here, and in files; to remove them here: run meshctl root forget'
      ],
      [
        { held: 2, exported: true, inMemory: 2 },
        '2 of 3 sign; 2 here, in memory until the next start: when you are done, run meshctl root forget'
      ]
    ] as const) {
      fake.answer('/v1/trust', { ...TRUST, roots: { k: 2, number: 3, ...roots } })
      assert.equal((await cli('root', 'status')).stdout, `Roots   ${expected}\n`)
    }
  })

  it('root import and export say nothing of members, since they are told nothing', async () => {
    const [file, passphrase] = [join(fake.folder, 'mesh.root'), join(fake.folder, 'passphrase')]
    writeFileSync(passphrase, 'correct horse battery staple\n')
    fake.answer('/v1/root/export', { file: '{}', check: '0123456789abcdef' })
    fake.answer('/v1/root/exported', { done: 'the root keys stay on this agent, too' })
    fake.answer('/v1/root/import', { done: 'this agent holds 1 root key now' })
    fake.answer('/v1/root/forget', { done: 'this agent holds no root key any more' })
    const exported = await cli('root', 'export', file, '--keep', '--passphrase-file', passphrase)
    assert.equal(
      exported.stdout,
      `Wrote ${file} (SHA-256 begins with 0123456789abcdef): the root keys stay on this agent, too.\n`
    )
    assert.partialDeepStrictEqual(fake.requests.at(-1), { body: { keep: true } })
    const imported = await cli('root', 'import', file, '--passphrase-file', passphrase)
    assert.deepEqual([imported.stdout, imported.stderr], ['This agent holds 1 root key now.\n', ''])
    const before = fake.requests.length
    const two = await cli('root', 'import', file, file, '--passphrase-file', passphrase)
    assert.deepEqual([two.stdout, fake.requests.length - before], ['This agent holds 1 root key now.\n', 2])
    const forgot = await cli('root', 'forget')
    assert.equal(forgot.stdout, 'This agent holds no root key any more.\n')
    const share = await cli('root', 'export', `${file}2`, '--share', '2', '--passphrase-file', passphrase)
    assert.equal(share.code, 0, share.stderr)
    assert.deepEqual(
      fake.requests.slice(-2).map(({ body }) => (body as { share?: number }).share),
      [2, 2]
    )
    const wrong = await cli('root', 'export', `${file}3`, '--share', '6')
    assert.match(wrong.stderr, /^error: --share: "6" is no number from 1 to 5/)
  })
})
