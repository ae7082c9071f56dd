import assert from 'node:assert/strict'
import { parseListing } from '../../../../src/io/host/tools/nft-listing.ts'

describe('what nft prints', () => {
  for (const text of ['', '\u0007\uFFFD', '{}', '[]', 'null', '{"nftables":5}', '{"nftables":{}}'])
    it(`${JSON.stringify(text)} is an error that names the tool, in words`, () => {
      assert.throws(() => parseListing(text), {
        code: 'TOOL_FAILED',
        message: 'nft ended with success, but its output has an unknown form'
      })
    })

  it('is no table of ours where entries are not what nft prints', () => {
    assert.equal(parseListing('{"nftables":[null,{"set":5},7]}').about, undefined)
  })
})
