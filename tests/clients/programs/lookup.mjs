// Look-ups through Node: `node lookup.mjs lookup` is dns.lookup, the C library's; `resolve` is dns.resolve*, c-ares.
// A line in, a line out, as lookup.c.
import dns from "node:dns/promises";
import readline from "node:readline";

const NONE = new Set(["ENOTFOUND", "ENODATA"]);
const TYPES = { 16: "TXT", 33: "SRV", 255: "ANY", 12: "PTR" };
const NOT_THERE = new Error("na");

const withLookup = {
  async addresses(family, name) {
    const found = await dns.lookup(name, { all: true, family: family === "any" ? 0 : Number(family) });
    return found.map((item) => item.address);
  },
  pointer: async (address) => [(await dns.lookupService(address, 80)).hostname],
};

const withResolve = {
  async addresses(family, name) {
    if (family === "4") return dns.resolve4(name);
    if (family === "6") return dns.resolve6(name);
    // What an application does that wants both.
    const halves = await Promise.allSettled([dns.resolve4(name), dns.resolve6(name)]);
    const hard = halves.find((half) => half.status === "rejected" && !NONE.has(half.reason.code));
    if (hard) throw hard.reason;
    const found = halves.flatMap((half) => half.value ?? []);
    if (found.length === 0) throw halves[0].reason;
    return found;
  },
  pointer: (address) => dns.reverse(address),
};

const api = process.argv[2] === "lookup" ? withLookup : withResolve;

async function look(word, first, second) {
  if (word === "ptr") return api.pointer(first);
  if (word === "type") {
    if (api === withLookup || !TYPES[first]) throw NOT_THERE;
    return [(await dns.resolve(second, TYPES[first])).length];
  }
  if (word !== "many") return api.addresses(word, first);
  const names = Array.from({ length: Number(first) }, (_, number) => `m${number}.${second}`);
  const done = await Promise.allSettled(names.map((name) => api.addresses("any", name)));
  const failed = done.find((one) => one.status === "rejected");
  if (failed) throw failed.reason;
  return [done.length];
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const began = performance.now();
  let status = "ok";
  let words;
  try {
    words = await look(...line.split(" "));
  } catch (error) {
    status = error === NOT_THERE ? "na" : NONE.has(error.code) ? "none" : "fail";
    words = [error.code ?? error.message.replaceAll(" ", "_")];
  }
  console.log([(performance.now() - began).toFixed(3), status, ...words].join(" "));
}
