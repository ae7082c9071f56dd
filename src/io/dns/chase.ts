// An ExternalName points outside the mesh. Its target is resolved upstream and the result is appended to the CNAME,
// because stub resolvers (glibc, musl) do not follow a CNAME themselves.
import type { Answer } from '../../core/dns/record.ts'
import type { Forwarder } from './forwarder.ts'
import { nameQuestion, readAnswers } from './names-on-wire.ts'
import { FLAG, HEADER_BYTES, u16, type Query } from './query.ts'
import { encodeAnswer, withRecords, type Encoded } from './response.ts'
import { hasQuestion } from './upstream-message.ts'

/**
 * Resolves the target of a CNAME, as CoreDNS does: the upstream's answer section follows the CNAME with any rcode. If
 * the target does not exist, or no upstream can resolve it, the answer is the CNAME alone with NOERROR. An upstream's
 * truncated UDP reply is asked for again over TCP.
 *
 * `answer` is the mesh's answer, which ends in the CNAME; `target` is the name that the CNAME points to; `client` is
 * the client's address, to whose share of places the query counts. Called by query-handler.ts for A and AAAA questions
 * only.
 */
export async function chase(
  forwarder: Pick<Forwarder, 'exchange'>,
  query: Query,
  { answer, target, client }: { readonly answer: Answer; readonly target: string; readonly client: string }
): Promise<Encoded> {
  const question = nameQuestion(target, query.type)
  const asked = { question, flags: FLAG.RD, edns: query.edns }
  let reply = (await forwarder.exchange({ ...asked, transport: 'udp' }, client))?.message
  if (reply !== undefined && isTruncated(reply)) {
    reply = (await forwarder.exchange({ ...asked, transport: 'tcp' }, client))?.message ?? reply
  }
  const encoded = encodeAnswer({ ...answer, externalTarget: undefined }, query)
  // A reply that does not repeat the question may belong to another query, so its records are not used.
  if (reply === undefined || !hasQuestion(reply)) return encoded
  const records = readAnswers(reply, HEADER_BYTES + question.length)
  if (records === undefined) return encoded
  return withRecords(encoded, records, { questionEnd: query.questionEnd, truncated: isTruncated(reply) })
}

function isTruncated(reply: Uint8Array): boolean {
  return (u16(reply, 2) & FLAG.TC) !== 0
}
