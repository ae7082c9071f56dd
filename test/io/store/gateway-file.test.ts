// The file of a gateway's invites: what is in it after a restart, and what becomes of a damaged one.
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { GatewayInvite } from '../../../src/core/trust/door/judge-gateway.ts'
import { openGatewayFile } from '../../../src/io/store/gateway-file.ts'

const invite = (digit: string, usedBy?: string): GatewayInvite =>
  ({ key: digit.repeat(64), clusterKey: 'f'.repeat(64), notAfter: 1000, usedBy }) as GatewayInvite

describe('the file of invites of gateways', () => {
  let folder: string
  const path = () => join(folder, 'gateways.json')

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rhizome-gateways-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  it('has what was saved last after a restart, for its owner only', async () => {
    const file = await openGatewayFile(folder)
    assert.deepEqual([file.invites(), file.warning], [[], undefined])
    await Promise.all([file.save([invite('1')]), file.save([invite('1', '12D3KooW'), invite('2')])])
    const again = await openGatewayFile(folder)
    assert.deepEqual(again.invites(), [invite('1', '12D3KooW'), invite('2')])
    assert.equal((await stat(path())).mode & 0o777, 0o600)
  })

  it('stays readable after more invites than it may hold: the oldest are dropped', async () => {
    const many = Array.from({ length: 1030 }, (_, at) => ({
      ...invite('1'),
      key: at.toString(16).padStart(64, '0')
    })) as GatewayInvite[]
    const file = await openGatewayFile(folder)
    await file.save(many)
    const again = await openGatewayFile(folder)
    assert.equal(again.warning, undefined)
    assert.deepEqual(
      again.invites().map(({ key }) => key),
      many.slice(6).map(({ key }) => key)
    )
  })

  it('is not written after it was closed: the next agent has it by then', async () => {
    const file = await openGatewayFile(folder)
    const begun = file.save([invite('1')])
    await file.close()
    await begun
    const next = await openGatewayFile(folder)
    await next.save([invite('1', '12D3KooW')])
    await assert.rejects(file.save([invite('2')]), { code: 'STORE_CLOSED' })
    await assert.rejects(file.clear(), { code: 'STORE_CLOSED' })
    assert.deepEqual((await openGatewayFile(folder)).invites(), [invite('1', '12D3KooW')])
  })

  it('is gone after a leave', async () => {
    const file = await openGatewayFile(folder)
    await file.save([invite('1')])
    await file.clear()
    assert.deepEqual([file.invites(), await readdir(folder)], [[], []])
  })

  it('that is damaged is set aside and gives nothing: a used invite must not look open', async () => {
    const file = await openGatewayFile(folder)
    await file.save([invite('1', '12D3KooW')])
    const text = await readFile(path(), 'utf8')
    for (const damaged of [
      text.slice(0, -20),
      text.replace(',\n      "usedBy": "12D3KooW"', ''),
      text.replace('"version": 1', '"version": 2'),
      'x'
    ]) {
      assert.notEqual(damaged, text)
      await writeFile(path(), damaged)
      const read = await openGatewayFile(folder)
      assert.deepEqual(read.invites(), [])
      assert.match(read.warning ?? '', /gateways\.json was damaged/)
      assert.deepEqual(await readdir(folder), ['gateways.json.corrupt'])
    }
  })
})
