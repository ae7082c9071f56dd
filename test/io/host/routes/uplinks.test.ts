import assert from 'node:assert/strict'
import { findUplinks } from '../../../../src/io/host/routes/uplinks.ts'

describe('the links with a default route by router advertisement', () => {
  for (const stdout of ['[{"ifname":5}]', '[{"ifname":'])
    it(`are not found in ${JSON.stringify(stdout)}, and the error names the tool`, async () => {
      const run = async () => ({ stdout, stderr: '', exitCode: 0 })
      await assert.rejects(findUplinks(run, 'wg0'), { code: 'TOOL_FAILED', tool: 'ip' })
    })
})
