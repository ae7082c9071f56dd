// The head that all messages of nf_tables share (linux/netfilter/nfnetlink.h). Its numbers are in network order.

/** Number of nftables among the subsystems of netfilter: the upper byte of a message type. */
export const NFNL_SUBSYS_NFTABLES = 10
/** The family `inet` of our tables. */
export const NFPROTO_INET = 1

/** Returns the 16-bit message type of an NFT_MSG_…. */
export function type(message: number): number {
  return (NFNL_SUBSYS_NFTABLES << 8) | message
}

/** Returns struct nfgenmsg: family, version 0, and the resource in network order (the subsystem, for a batch). */
export function header(family: number, resource = 0): Buffer {
  return Buffer.from([family, 0, resource >> 8, resource & 255])
}
