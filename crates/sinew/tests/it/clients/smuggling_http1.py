"""Cases of clients of HTTP/1.1, and the answers that applications must not give."""
from smuggling_base import *

# ---- Content-Length with Transfer-Encoding, and each with itself --------------------------------------------------------
refused('CL.TE', request(length_of(LATER) + CHUNKED, LATER))
refused('TE.CL', request(CHUNKED + b'Content-Length: 4\r\n', b'2e\r\n' + SMUGGLED + b'\r\n0\r\n\r\n'))
refused('CL.TE, length 0', request(b'Content-Length: 0\r\n' + CHUNKED, LATER))
refused('CL.TE in GET', request(length_of(LATER) + CHUNKED, LATER, b'GET'))
refused('CL.TE, TE in trailers of a list', request(b'Content-Length: 6\r\nTransfer-Encoding: identity\r\n', LATER), 400, 501)
for name, fields in [
        ('differing lengths', b'Content-Length: 0\r\nContent-Length: 46\r\n'),
        ('the same length twice', b'Content-Length: 46\r\nContent-Length: 46\r\n'),
        ('lengths in other cases', b'content-length: 46\r\nCONTENT-LENGTH: 0\r\n')]:
    refused(name, request(fields, SMUGGLED))
for value in (
        b'+46', b'-46', b'-0', b'46,46', b'46, 46', b'46, 0', b'0x2e', b'0X2E', b'2e', b'4 6', b'4_6', b'46.0', b'4.6e1', b'"46"',
        b"'46'", b'', b' ', b'46;', b'46 x', b'x', b'\x0b46', b'46\x0b', b'\x0c46', b'46\x00', b'\x0046', b'\xa046', b'46\xa0', b'\xb2',
        b'\xef\xbc\x94\xef\xbc\x96', b'0b101110', b'0o56', b'46h', b'9223372036854775808', b'18446744073709551616',
        b'18446744073709551662', b'99999999999999999999999999', b'4294967342,46', b'NaN', b'inf', b'{46}', b'%34%36', b'46\r', b'\r46',
        b'46\rX: y', b'\n46'):
    refused(f'length {value!r}', request(b'Content-Length: ' + value + b'\r\n', SMUGGLED))
for value in (b' 46', b'46 ', b'\t46', b'46\t', b' \t 46 \t ', b'046', b'00000000046'):
    served(f'length {value!r}', request(b'Content-Length:' + value + b'\r\n', SMUGGLED), X(SMUGGLED))
Case('the largest length, then the end', request(b'Content-Length: 9223372036854775807\r\n', SMUGGLED), half=True)

# ---- Transfer-Encoding that some read as chunked ------------------------------------------------------------------------
for value in (
        b'xchunked', b'chunkedx', b'chunked-', b'chunk', b'chunked, identity', b'identity, chunked', b'identity', b'chunked, chunked',
        b'chunked,', b', chunked', b',chunked', b'chunked,cow', b'cow, chunked', b'gzip, chunked', b'chunked, gzip', b'gzip',
        b'deflate', b'compress', b'chunked;q=1', b'chunked ; x', b'chunked=1', b'chunked x', b'x chunked', b'"chunked"', b"'chunked'",
        b'(chunked)', b'[chunked]', b'\\chunked', b'chu\\nked', b'c\thunked', b'chunked\xa0', b'\xa0chunked', b'\x85chunked',
        b'chun\xe2\x84\xaaed', b'chun\xc4\xb1ked', b'', b'\xff', b'chunked\xff', b'%63hunked', b'null', b'true', b'*', b'/chunked',
        b'chunked/', b'chunked:', b':chunked', b'Transfer-Encoding: chunked'):
    # 501 where it ends in chunks (RFC 9112, 6.1), else 400 (6.3).
    status = 501 if re.split(rb'[, ]+', value.strip(b','))[-1] == b'chunked' and b' chunked' not in value.replace(b', ', b',') else 400
    refused(f'coding {value!r}', request(b'Transfer-Encoding: ' + value + b'\r\n', LATER), status)
    refused(f'coding {value!r}, with a length', request(b'Content-Length: 5\r\nTransfer-Encoding: ' + value + b'\r\n', LATER), status)
for value in (
        b'\x0bchunked', b'chunked\x0b', b'\x0cchunked', b'chunked\x0c', b'\x00chunked', b'chunked\x00', b'chun\x00ked', b'\x08chunked',
        b'\x1fchunked', b'\x7fchunked', b'\rchunked', b'chunked\r', b'\nchunked', b'\n chunked', b'\r\n chunked', b'\r\n\tchunked',
        b'chunked\r\n ', b'chunked\r\n , identity', b'chunked\rX: y', b'x\nTransfer-Encoding: chunked',
        b'x\rTransfer-Encoding: chunked', b'\r\n\r chunked'):
    refused(f'coding {value!r}', request(b'Transfer-Encoding: ' + value + b'\r\n', LATER), 400, 501)
for line in (
        b'Transfer-Encoding : chunked', b'Transfer-Encoding\t: chunked', b'Transfer-Encoding\x0b: chunked',
        b'Transfer-Encoding\x00: chunked', b'Transfer Encoding: chunked', b' Transfer-Encoding: chunked',
        b'\tTransfer-Encoding: chunked', b'\x00Transfer-Encoding: chunked', b'\x0bTransfer-Encoding: chunked', b'Transfer-Encoding',
        b'Transfer-Encoding chunked', b'Transfer-Encoding\r\n : chunked', b'Transfer-Encoding\r\n: chunked',
        b'"Transfer-Encoding": chunked', b'Transfer\xadEncoding: chunked', b'Transfer-\r\n Encoding: chunked',
        b': Transfer-Encoding: chunked', b':', b':chunked', b'Transfer-Encoding;: chunked', b'(Transfer-Encoding): chunked',
        b'Transfer-Encoding\xa0: chunked', b'\xef\xbb\xbfTransfer-Encoding: chunked', b'Transfer-Encoding@: chunked',
        b'X: y\nTransfer-Encoding: chunked', b'X: y\rTransfer-Encoding: chunked', b'X: y\r\rTransfer-Encoding: chunked',
        b'X: y\n\rTransfer-Encoding: chunked', b'X: y\n\nTransfer-Encoding: chunked', b'Foo\r\nTransfer-Encoding: chunked',
        b'Content-Length : 46', b'Content-Length\t: 46', b' Content-Length: 46', b'Content-Length', b'Content Length: 46',
        b'Content-Length\x00: 46', b'\x00Content-Length: 46'):
    refused(f'line {line!r}', request(line + b'\r\n', LATER))
    refused(f'line {line!r} as the first', request(b'', LATER, host=line + b'\r\nHost: one\r\n'))
for fields in (
        CHUNKED * 2, CHUNKED + b'Transfer-Encoding: identity\r\n', b'Transfer-Encoding: identity\r\n' + CHUNKED,
        CHUNKED + b'Transfer-Encoding:\r\n', b'Transfer-Encoding: cow\r\n' + CHUNKED, CHUNKED + b'transfer-ENCODING: x\r\n'):
    refused(f'codings {fields!r}', request(fields, LATER), 400, 501)
for line in (
        b'Transfer-Encoding: chunked', b'transfer-encoding:chunked', b'TRANSFER-ENCODING: CHUNKED', b'TrAnSFer-EnCODinG: cHuNkeD',
        b'Transfer-Encoding:\tchunked', b'Transfer-Encoding: chunked\t ', b'Transfer-Encoding:  \t chunked'):
    served(f'line {line!r}', request(line + b'\r\n', b'5\r\nhello\r\n0\r\n\r\n'), X(b'hello'))
# Framing to those who read `_` as `-`.
for line in (
        b'Transfer_Encoding: chunked', b'Content_Length: 46', b'transfer_encoding: chunked', b'CONTENT_LENGTH: 0',
        b'Content_length: 5, 5'):
    refused(f'line {line!r}', request(line + b'\r\n' + length_of(LATER), LATER))
for line in (
        b'Content-Encoding: chunked', b'X-Transfer-Encoding: chunked', b'Transfer.Encoding: chunked', b'TE: chunked',
        b'Accept-Encoding: chunked', b'X: Transfer-Encoding: chunked'):
    served(f'line {line!r}', request(line + b'\r\n' + length_of(LATER), LATER), X(LATER))

# ---- no body where some see one, and the other way -----------------------------------------------------------------------
served('CL.0 of GET', request(length_of(SMUGGLED), SMUGGLED, b'GET'), X(SMUGGLED, b'GET'))
served('CL.0 of HEAD', request(length_of(SMUGGLED), SMUGGLED, b'HEAD'), X(SMUGGLED, b'HEAD'))
served('CL.0 of DELETE', request(length_of(SMUGGLED), SMUGGLED, b'DELETE'), X(SMUGGLED, b'DELETE'))
served('CL.0 of OPTIONS', request(length_of(SMUGGLED), SMUGGLED, b'OPTIONS'), X(SMUGGLED, b'OPTIONS'))
served('TE.0 of GET', request(CHUNKED, b'2e\r\n' + SMUGGLED + b'\r\n0\r\n\r\n', b'GET'), X(SMUGGLED, b'GET'))
served('TE.0 of OPTIONS', request(CHUNKED, b'2e\r\n' + SMUGGLED + b'\r\n0\r\n\r\n', b'OPTIONS'), X(SMUGGLED, b'OPTIONS'))
served('0.CL: a body that looks like a request', request(length_of(SMUGGLED), SMUGGLED), X(SMUGGLED))
served('POST without a length', request() + SECOND, X(), GOT_SECOND)
served('a length of 0, then a request', request(b'Content-Length: 0\r\n') + SECOND, X(), GOT_SECOND)
served('pipelined, with bodies that are requests', request(length_of(SMUGGLED), SMUGGLED) * 3 + SECOND, X(SMUGGLED), X(SMUGGLED),
    X(SMUGGLED), GOT_SECOND)
served('the last chunk, then a request', request(CHUNKED, b'5\r\nhello\r\n0\r\n\r\n') + SECOND, X(b'hello'), GOT_SECOND)
Case('less than the length, then the end', request(b'Content-Length: 90\r\n', SMUGGLED), half=True)
Case('chunks without the last, then the end', request(CHUNKED, b'2e\r\n' + SMUGGLED + b'\r\n'), half=True)
Case('chunks without the last CR LF, then the end', request(CHUNKED, b'2e\r\n' + SMUGGLED + b'\r\n0\r\n'), half=True)
Case('a head without its end', request()[:-2], half=True)
Case('more than the length: half a request', request(b'Content-Length: 5\r\n', b'helloGET /TTTTTTTT/smug'), served=[X(b'hello')],
    half=True)
refused('more than the length: no request', request(b'Content-Length: 5\r\n', b'hello\0world\r\n\r\n'), served=[X(b'hello')])
served('more than the length: two empty bytes', request(b'Content-Length: 5\r\n', b'hello\r\n') + SECOND, X(b'hello'), GOT_SECOND)

# ---- chunks ----------------------------------------------------------------------------------------------------------------
def chunks(name, body, *statuses):
    refused(f'chunks: {name}', request(CHUNKED, body), *statuses)
for size in (
        b'0x5', b'0X5', b'5_', b'_5', b'0_5', b' 5', b'5 ', b'5\t', b'\t5', b'+5', b'-5', b'5h', b'5.', b'5,', b'', b'g', b'"5"',
        b'\x005', b'5\x00', b'5\x0b', b'\x0b5', b'5\xa0', b'\xef\xbc\x95', b'10000000000000005', b'ffffffffffffffffb',
        b'ffffffffffffffff', b'8000000000000005', b'fffffffffffffffb', b'00000000000000005', b'0' * 5000 + b'5', b'5 5', b'5 ;a',
        b'5\r', b'5\r\r', b'5\n\r', b'\r\n5', b'5:', b'5=', b'-1', b'-0'):
    chunks(f'size {size[:24]!r}', size + b'\r\nhello\r\n0\r\n\r\n' + SMUGGLED, 400, 413)
for size in (
        b'0' * 15 + b'5', b'05', b'5;', b'5;a', b'5;a=b', b'5;a="b"', b'5;a="b;c"', b'5;\xe9=\xe9', b'5;a;b=c;d="e"', b'5;a="\\""',
        b'5; a = b'):
    served(f'chunks: size {size!r}', request(CHUNKED, size + b'\r\nhello\r\n0\r\n\r\n') + SECOND, X(b'hello'), GOT_SECOND)
served('chunks: digits in both cases', request(CHUNKED, b'A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n'), X(b'0123456789' * 2))
served('chunks: a last one of many zeros', request(CHUNKED, b'5\r\nhello\r\n0000000000000000\r\n\r\n') + SECOND, X(b'hello'), GOT_SECOND)
chunks('a size that ends in LF', b'5\nhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('a size that ends in CR', b'5\rhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('data that ends in LF', b'5\r\nhello\n0\r\n\r\n' + SMUGGLED)
chunks('data that ends in CR', b'5\r\nhello\r0\r\n\r\n' + SMUGGLED)
chunks('data that ends in two LF', b'5\r\nhello\n\n0\r\n\r\n' + SMUGGLED)
chunks('data that ends in two other bytes', b'5\r\nhelloXX0\r\n\r\n' + SMUGGLED)
chunks('data that ends in LF CR', b'5\r\nhello\n\r0\r\n\r\n' + SMUGGLED)
chunks('data that is longer', b'5\r\nhello, world\r\n0\r\n\r\n' + SMUGGLED)
chunks('data that is shorter', b'5\r\nhell\r\n0\r\n\r\n' + SMUGGLED)
chunks('data that is shorter by the end of a line', b'7\r\nhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('data without an end', b'5\r\nhello0\r\n\r\n' + SMUGGLED)
chunks('a last one that ends in LF', b'5\r\nhello\r\n0\n\r\n' + SMUGGLED)
chunks('a last one, then LF', b'5\r\nhello\r\n0\r\n\n' + SMUGGLED)
chunks('a last one, then CR and other', b'5\r\nhello\r\n0\r\n\rX' + SMUGGLED)
chunks('LF alone everywhere', b'5\nhello\n0\n\n' + SMUGGLED)
chunks('an extension that ends in LF', b'5;\nhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('an extension with LF in it', b'5;a\nxx\r\n2e\r\n0\r\n\r\n' + SMUGGLED)
chunks('an extension with CR in it', b'5;a\rxx\r\nhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('an extension with NUL in it', b'5;a\0xx\r\nhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('an extension with LF in quotes', b'5;a="\n"\r\nhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('an extension with CR LF in quotes', b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('an extension with LF behind the last', b'5\r\nhello\r\n0;a\n\r\n' + SMUGGLED)
chunks('an extension that is too long', b'5;' + b'a' * 100000 + b'\r\nhello\r\n0\r\n\r\n' + SMUGGLED)
chunks('extensions that are too many', b'1;aaaaaaaaaaaaaaaa\r\nh\r\n' * 20000 + b'0\r\n\r\n' + SMUGGLED)
chunks('no chunk at all', SMUGGLED)
chunks('an empty line', b'\r\n0\r\n\r\n' + SMUGGLED)
chunks('two last ones', b'0\r\n0\r\n\r\n' + SMUGGLED)
served('chunks: data of the end of a body', request(CHUNKED, b'5\r\n0\r\n\r\n\r\n0\r\n\r\n') + SECOND, X(b'0\r\n\r\n'), GOT_SECOND)
served('chunks: data that is a request', request(CHUNKED, b'33\r\n' + LATER + b'\r\n0\r\n\r\n') + SECOND, X(LATER), GOT_SECOND)

# ---- trailers --------------------------------------------------------------------------------------------------------------
def no_trailer(*names):
    def check(record, _):
        got = {name for name, _ in record['trailers']}
        assert not got & set(names), f'trailers {got}'
    return check
TRAILED = b'5\r\nhello\r\n0\r\n'
for line in (
        b'Content-Length: 46', b'Transfer-Encoding: chunked', b'Host: evil', b'Connection: close', b'Authorization: x',
        b'Content-Type: x', b'Cookie: a=b', b'Trailer: x', b'TE: trailers', b'Upgrade: h2c', b'Expect: 100-continue', b'Keep-Alive: 1',
        b'Proxy-Connection: x', b'X-Request-Id: x', b'Set-Cookie: a'):
    served(f'trailer {line!r}', request(CHUNKED, TRAILED + line + b'\r\nX-Sum: 5\r\n\r\n') + SECOND, X(b'hello'), GOT_SECOND,
        check=no_trailer(line.split(b':')[0].decode().lower()))
for line in (
        b'x y: z', b'x : z', b': z', b'x', b' x: y', b'x: a\0b', b'x: a\rb', b'x: a\nb', b'x: a\n', b'a: b\r\n c', b'X\x00: y',
        b'GET /TTTTTTTT/smuggled HTTP/1.1', b'x: y\n\nGET /TTTTTTTT/smuggled HTTP/1.1'):
    refused(f'trailer {line!r}', request(CHUNKED, TRAILED + line + b'\r\n\r\n' + SMUGGLED), 400)
refused('trailers that are too large', request(CHUNKED, TRAILED + b'x: ' + b'y' * 200000 + b'\r\n\r\n'), 400, 431)
refused('trailers that are too many', request(CHUNKED, TRAILED + b'x: y\r\n' * 2000 + b'\r\n'), 400, 431)

# ---- request lines ---------------------------------------------------------------------------------------------------------
FULL = b'GET /TTTTTTTT/x HTTP/1.1'
for line, statuses in [
        (b'GET /TTTTTTTT/x', (400,)), (b'GET /TTTTTTTT/x HTTP/0.9', (400, 505)), (b'GET /TTTTTTTT/x HTTP/1.2', (400, 505)),
        (b'GET /TTTTTTTT/x HTTP/2.0', (400, 505)), (b'GET /TTTTTTTT/x HTTP/2', (400, 505)), (b'GET /TTTTTTTT/x HTTP/1', (400, 505)),
        (b'GET /TTTTTTTT/x HTTP/11', (400, 505)), (b'GET /TTTTTTTT/x HTTP/1.10', (400, 505)),
        (b'GET /TTTTTTTT/x HTTP/01.1', (400, 505)), (b'GET /TTTTTTTT/x http/1.1', (400,)), (b'GET /TTTTTTTT/x HTTP /1.1', (400, 505)),
        (b'GET /TTTTTTTT/x HTTP/1,1', (400, 505)), (b'GET /TTTTTTTT/x HTTP/ 1.1', (400, 505)), (b'GET /TTTTTTTT/x HTTPS/1.1', (400,)),
        (b'GET /TTTTTTTT/x XTTP/1.1', (400,)), (b'GET /TTTTTTTT/x HTTP/1.1 HTTP/1.1', (400, 505)),
        (b'GET /TTTTTTTT/x HTTP/1.1x', (400, 505)), (b'GET /TTTTTTTT/x HTTP/+1.1', (400, 505)),
        (b'GET /TTTTTTTT/x HTTP/1.1\0', (400, 505)), (b'GET /TTTTTTTT/x HTTP/1.1 ', (400, 505)),
        (b'GET /TTTTTTTT/x HTTP/1.1\t', (400, 505)), (b'GET /TTTTTTTT/x HTTP/1.1\r', (400, 505))]:
    refused(f'request line {line!r}', line + b'\r\nHost: one\r\n\r\n', *statuses)
for line in (
        b'GET  /TTTTTTTT/x HTTP/1.1', b'GET /TTTTTTTT/x  HTTP/1.1', b'GET\t/TTTTTTTT/x HTTP/1.1', b'GET /TTTTTTTT/x\tHTTP/1.1',
        b'GET\t/TTTTTTTT/x\tHTTP/1.1', b' GET /TTTTTTTT/x HTTP/1.1', b'\tGET /TTTTTTTT/x HTTP/1.1', b'GET\x0b/TTTTTTTT/x HTTP/1.1',
        b'GET\xa0/TTTTTTTT/x HTTP/1.1', b'GET /TTTTTTTT/x y HTTP/1.1', b'GET /TTTTTTTT/x#y HTTP/1.1', b'GET /TTTTTTTT/\0 HTTP/1.1',
        b'GET /TTTTTTTT/\x7f HTTP/1.1', b'GET /TTTTTTTT/\x01 HTTP/1.1', b'GET /TTTTTTTT/\xe9 HTTP/1.1', b'GET /TTTTTTTT/\xff HTTP/1.1',
        b'GET /TTTTTTTT/x\r HTTP/1.1', b'GET /TTTTTTTT/\n HTTP/1.1', b'GET TTTTTTTT/x HTTP/1.1', b'GET ?TTTTTTTT/x HTTP/1.1',
        b'GET * HTTP/1.1', b'GET one HTTP/1.1', b'GET one:80 HTTP/1.1', b'GET http:/TTTTTTTT/x HTTP/1.1', b'GET http:// HTTP/1.1',
        b'GET http:///TTTTTTTT/x HTTP/1.1', b'GET ftp://one/TTTTTTTT/x HTTP/1.1', b'GET one/TTTTTTTT/x HTTP/1.1',
        b'GET @evil/TTTTTTTT/x HTTP/1.1', b'GET :80/TTTTTTTT/x HTTP/1.1', b'GET \\TTTTTTTT HTTP/1.1', b'G\0T /TTTTTTTT/x HTTP/1.1',
        b'G(T /TTTTTTTT/x HTTP/1.1', b'G"T /TTTTTTTT/x HTTP/1.1', b'G:T /TTTTTTTT/x HTTP/1.1', b'G/T /TTTTTTTT/x HTTP/1.1',
        b'G\xe9T /TTTTTTTT/x HTTP/1.1', b'G[T /TTTTTTTT/x HTTP/1.1', b'G,T /TTTTTTTT/x HTTP/1.1', b'G\rT /TTTTTTTT/x HTTP/1.1',
        b'\0GET /TTTTTTTT/x HTTP/1.1', b'/TTTTTTTT/x HTTP/1.1', b'GET HTTP/1.1', b'GET', b'GET ', b'HTTP/1.1 200 OK',
        b'\xef\xbb\xbfGET /TTTTTTTT/x HTTP/1.1', b'GET /TTTTTTTT/x HTTP/1.1\nX: y', b'GET /TTTTTTTT/x HTTP/1.1\rX: y'):
    refused(f'request line {line!r}', line + b'\r\nHost: one\r\n\r\n', 400, 505)
refused('a method that is too long', b'G' * 100 + b' /TTTTTTTT/x HTTP/1.1\r\nHost: one\r\n\r\n', 400, 501)
refused('a target that is too long', request(target=b'x' * 100000, method=b'GET'), 414)
refused('a line without an end', b'GET /TTTTTTTT/' + b'x' * 200000, 414)
refused('LF alone everywhere', request(length_of(SMUGGLED), SMUGGLED).replace(b'\r\n', b'\n'))
refused('LF alone behind the request line', FULL + b'\nHost: one\r\n\r\n')
refused('LF alone behind a field', FULL + b'\r\nHost: one\n\r\n')
refused('LF alone for the empty line', FULL + b'\r\nHost: one\r\n\n')
refused('CR alone everywhere', FULL + b'\rHost: one\r\r\r\n\r\n')
refused('CR alone for the empty line', FULL + b'\r\nHost: one\r\n\rX\r\n\r\n')
refused('CR LF CR CR LF', FULL + b'\r\nHost: one\r\n\r\r\n\r\n\r\n')
refused('LF before a request', b'\n' + request(method=b'GET'))
refused('many CR LF before a request', b'\r\n\r\n' + request(method=b'GET'))
refused('CR before a request', b'\r' + request(method=b'GET'))
refused('NUL before a request', b'\0' + request(method=b'GET'))
served('CR LF before a request', b'\r\n' + request(method=b'GET'), X(b'', b'GET'))
served('a method in lower case', request(method=b'get'), X(b'', b'get'))
served('a method of odd letters', request(method=b"P!#$%&'*+-.^_`|~9"), X(b'', b"P!#$%&'*+-.^_`|~9"))
served('a target of odd letters', request(method=b'GET', target=b'x//..;/%00%0d%0aHost:%20evil?a=b?c&d=%20|"<>\\^`{}\''), X(b'', b'GET',
    b'x//..;/%00%0d%0aHost:%20evil?a=b?c&d=%20|"<>\\^`{}\''))

# ---- hosts -----------------------------------------------------------------------------------------------------------------
for host in (
        b'one\r\nHost: evil', b'one\r\nHost: one', b'one, evil', b'one evil', b'one\tevil', b'evil@one', b'one/x', b'one?x', b'one#x',
        b'one\\x', b'one:80:80', b'one:x', b'one:0x50', b'one:-1', b'one:123456', b':80', b'[one', b'one]', b'[::1]x', b'[::1',
        b'one\0', b'\0one', b'one\x0b', b'one\xe9', b'"one"', b'<one>', b'http://one', b'one\r\n , evil', b'one\rX: y', b'one|evil',
        b'one;evil', b'one&evil', b"one'", b'{one}', b'one\r\nHost : evil', b'one\r\n Host: evil'):
    refused(f'host {host!r}', request(method=b'GET', host=b'Host: ' + host + b'\r\n'))
refused('no host', request(method=b'GET', host=b''))
for target, host in [
        (b'http://evil/', b'one'), (b'http://one@evil/', b'one'), (b'http://evil@one/', b'one'), (b'http://one:8000/', b'one'),
        (b'https://one:80/', b'one'), (b'http://one,evil/', b'one'), (b'http://one:x/', b'one')]:
    refused(f'target {target!r} at {host!r}', b'GET ' + target + b'TTTTTTTT/x HTTP/1.1\r\nHost: ' + host + b'\r\n\r\n')
served('absolute form', b'GET http://one/TTTTTTTT/x HTTP/1.1\r\nHost: one\r\n\r\n', X(b'', b'GET'))
served('absolute form in other letters', b'GET HTTP://ONE:80/TTTTTTTT/x HTTP/1.1\r\nHost: one\r\n\r\n', X(b'', b'GET'))
served('absolute form with a body', b'POST http://one/TTTTTTTT/x HTTP/1.1\r\nHost: one\r\n' + length_of(SMUGGLED) + b'\r\n' + SMUGGLED,
    X(SMUGGLED))
refused('CONNECT', b'CONNECT one:80 HTTP/1.1\r\nHost: one:80\r\n\r\n' + SMUGGLED, 400, 405)
refused('CONNECT with a body', b'CONNECT one:80 HTTP/1.1\r\nHost: one:80\r\n' + length_of(SMUGGLED) + b'\r\n' + SMUGGLED, 400, 405)
refused('CONNECT of a path', request(method=b'CONNECT'), 400, 405)

# ---- fields ----------------------------------------------------------------------------------------------------------------
for byte in [*range(0, 9), *range(10, 32), 127]:
    refused(f'byte {byte} in a value', request(b'X: a' + bytes([byte]) + b'b\r\n', method=b'GET'))
for byte in [*range(0, 33), *b'"(),/;<=>?@[\\]{}', 127, 128, 255]:
    refused(f'byte {byte} in a name', request(b'X' + bytes([byte]) + b'Y: b\r\n', method=b'GET'))
def value_of(name, value):
    def check(record, fields):
        if record['target'].endswith('/x'):
            assert fields.get(name) == value, f'{name}: {fields.get(name)!r}'
    return check
served('bytes beyond ASCII in a value', request(b'X: \x80\xff\r\n', method=b'GET'), X(b'', b'GET'), check=value_of('x',
    '\x80\xff') if WORLD == 'h1' else None)
refused('a name without a value or colon', request(b'X\r\n', method=b'GET'))
refused('a folded line', request(b'X: a\r\n b\r\n', method=b'GET'))
refused('a folded line at the end', request(b'X: a\r\n \r\n', method=b'GET'))
refused('a line of spaces', request(b'X: a\r\n  \r\nY: b\r\n', method=b'GET'))
refused('too many fields', request(b'X: y\r\n' * 300, method=b'GET'), 431)
refused('fields that are too large', request(b'X: ' + b'y' * 100000 + b'\r\n', method=b'GET'), 431)

# ---- hop by hop ------------------------------------------------------------------------------------------------------------
def without(*names):
    def check(record, fields):
        if record['target'].endswith('/x'):
            assert not set(names) & set(fields), f'{set(names) & set(fields)} came through'
    return check
def with_(*names):
    def check(record, fields):
        if record['target'].endswith('/x'):
            assert set(names) <= set(fields), f'only {set(fields)} came through'
    return check
for listed in (
        b'content-length', b'Content-Length, close', b'host, content-length', b'content-length, content-length', b'transfer-encoding'):
    served(f'Connection: {listed!r}', request(b'Connection: ' + listed + b'\r\n' + length_of(SMUGGLED), SMUGGLED), X(SMUGGLED),
        lives=b'close' not in listed, check=without(*([] if WORLD == 'bridge' else ['connection'])))
served('Connection: transfer-encoding', request(b'Connection: transfer-encoding\r\n' + CHUNKED, b'2e\r\n' + SMUGGLED + b'\r\n0\r\n\r\n'),
    X(SMUGGLED))
served('Connection: host', request(b'Connection: host\r\n', method=b'GET'), X(b'', b'GET'))
served('Connection names a field',
    request(b'Connection: x-mine, \t,keep-alive\r\nX-Mine: 1\r\nX-Other: 2\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n', method=b'GET'),
    X(b'', b'GET'), check=without('x-mine', 'keep-alive', 'proxy-connection', 'connection'))
served('Connection names what we add', request(b'Connection: x-request-id, traceparent, x-forwarded-for\r\nX-Request-Id: mine\r\n',
    method=b'GET'), X(b'', b'GET'), check=with_('x-request-id', 'traceparent'))
served('Connection: te', request(b'Connection: te\r\nTE: gzip;q=1, chunked\r\n', method=b'GET'), X(b'', b'GET'), check=without('te'))
served('a reason of ours from outside', request(b'X-Sinew-Reason: connect-failed\r\n', method=b'GET'), X(b'', b'GET'),
    check=without('x-sinew-reason'))
served('Connection: close, then a request', request(b'Connection: close\r\n', method=b'GET') + SMUGGLED, X(b'', b'GET'), lives=False)
refused('too many connection options', request(b'Connection: ' + b'a,' * 200 + b'\r\n', method=b'GET'))

# ---- HTTP/1.0 --------------------------------------------------------------------------------------------------------------
old = lambda fields=b'', body=b'', **more: request(fields, body, version=b'HTTP/1.0', **more)
refused('1.0 with chunks', old(CHUNKED, LATER))
refused('1.0 with chunks, kept alive', old(CHUNKED + b'Connection: keep-alive\r\n', LATER))
refused('1.0 with chunks and a length', old(CHUNKED + length_of(LATER), LATER))
served('1.0, then a request', old(method=b'GET') + SMUGGLED, X(b'', b'GET'), lives=False)
served('1.0 with a length, then a request', old(length_of(b'hello'), b'hello') + SMUGGLED, X(b'hello'), lives=False)
served('1.0 that is kept alive', old(length_of(SMUGGLED) + b'Connection: keep-alive\r\n', SMUGGLED) + SECOND, X(SMUGGLED), GOT_SECOND)
served('1.0 without a host', old(method=b'GET', host=b''), X(b'', b'GET'), lives=False)
served('1.0 with Expect', old(b'Expect: 100-continue\r\n' + length_of(SMUGGLED), SMUGGLED), X(SMUGGLED), lives=False,
    check=without('expect'))
served('1.0 with Upgrade', old(b'Connection: upgrade\r\nUpgrade: websocket\r\n', method=b'GET') + SMUGGLED, X(b'', b'GET'), lives=False,
    check=without('upgrade'))

# ---- Expect ----------------------------------------------------------------------------------------------------------------
EXPECT = b'Expect: 100-continue\r\n'
served('Expect, the body at once', request(EXPECT + length_of(SMUGGLED), SMUGGLED) + SECOND, X(SMUGGLED), GOT_SECOND)
served('Expect, the body later', [request(EXPECT + length_of(SMUGGLED)), SMUGGLED + SECOND], X(SMUGGLED), GOT_SECOND)
served('Expect, chunks later', [request(EXPECT + CHUNKED), b'2e\r\n' + SMUGGLED + b'\r\n0\r\n\r\n' + SECOND], X(SMUGGLED), GOT_SECOND)
served('Expect without a body', request(EXPECT, method=b'GET') + SECOND, X(b'', b'GET'), GOT_SECOND)
served('Expect with a body of 0', request(EXPECT + b'Content-Length: 0\r\n') + SECOND, X(), GOT_SECOND)
served('Expect in GET with a body', request(EXPECT + length_of(SMUGGLED), SMUGGLED, b'GET') + SECOND, X(SMUGGLED, b'GET'), GOT_SECOND)
served('Expect in other letters', request(b'expect: 100-CONTINUE\r\n' + length_of(SMUGGLED), SMUGGLED) + SECOND, X(SMUGGLED), GOT_SECOND)
for value in (
        b'100-continue, x', b'x 100-continue', b'y100-continue', b'100-continue;x', b'x', b'', b'200-ok', b'"100-continue"',
        b'100-continue, 100-continue'):
    refused(f'Expect: {value!r}', request(b'Expect: ' + value + b'\r\n' + length_of(SMUGGLED), SMUGGLED), 417)
for fields in (EXPECT + b'Expect: x\r\n', b'Expect: x\r\n' + EXPECT, b'Expect:\r\n' + EXPECT):
    refused(f'{fields!r}', request(fields + length_of(SMUGGLED), SMUGGLED), 417)
refused('a folded Expect', request(b'Expect:\r\n 100-continue\r\n' + length_of(SMUGGLED), SMUGGLED))
Case('Expect that is refused, the body nevertheless', [request(EXPECT + length_of(SMUGGLED), target=b'refuse'), SMUGGLED],
    maybe=[b'refuse'], half=True)
Case('answered before the body, which comes', [request(length_of(SMUGGLED), target=b'early'), SMUGGLED], maybe=[b'early'], half=True)
Case('answered before the chunks, which come', [request(CHUNKED, target=b'early'), b'2e\r\n' + SMUGGLED + b'\r\n0\r\n\r\n'],
    maybe=[b'early'], half=True)
Case('answered before the chunks, which are none', [request(CHUNKED, target=b'early'), SMUGGLED], maybe=[b'early'], half=True)
Case('answered before a body that never comes whole', [request(b'Content-Length: 1000\r\n', target=b'early'), SMUGGLED], maybe=[b'early'],
    half=True)

# ---- Upgrade ---------------------------------------------------------------------------------------------------------------
SOCKET = b'Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
BAD = b'Sec-WebSocket-Version: 1337\r\n'
def upgrade(name, fields, *more, **options):
    Case(name, request(fields, method=b'GET') + SMUGGLED.replace(b'smuggled', b'piped'), served=[X(b'', b'GET')], maybe=[b'piped'],
        **options)
if WORLD != 'bridge':
    upgrade('Upgrade of a version that is none, then a request', SOCKET + BAD)
    upgrade('Upgrade that is not granted, then a request', SOCKET + b'Sec-WebSocket-Version: 13\r\n')
    upgrade('Upgrade to nothing known', b'Connection: upgrade\r\nUpgrade: x\r\n')
upgrade('h2c', b'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n',
    check=without('upgrade', 'http2-settings', 'connection'))
upgrade('h2c without settings', b'Connection: Upgrade\r\nUpgrade: h2c\r\n', check=without('upgrade', 'http2-settings'))
upgrade('h2c of settings that are not listed', b'Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n', check=without('upgrade',
    'http2-settings'))
upgrade('h2c beside WebSocket', b'Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n', check=without('upgrade'))
upgrade('h2c in other letters', b'Connection: Upgrade\r\nUpgrade: H2C\r\n', check=without('upgrade'))
upgrade('Upgrade that is not listed', b'Upgrade: websocket\r\n', check=without('upgrade'))
served('Upgrade with a body', request(SOCKET + length_of(SMUGGLED), SMUGGLED), X(SMUGGLED), lives=None, check=without('upgrade'))
served('h2c with a body', request(b'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n' + length_of(SMUGGLED),
    SMUGGLED), X(SMUGGLED), check=without('upgrade', 'http2-settings'))
refused('the preface behind a request', request(method=b'GET') + h2.PREFACE, 400, 505, served=[X(b'', b'GET')])
if not SPLIT:
    # Byte by byte it is the preface, until it is not: GOAWAY.
    refused('the preface with a field', b'PRI * HTTP/2.0\r\nHost: one\r\n\r\n', 400, 405, 505)

# ---- pauses ----------------------------------------------------------------------------------------------------------------
served('a pause behind the head', [request(length_of(SMUGGLED)), SMUGGLED], X(SMUGGLED))
served('a pause in the body', [request(length_of(SMUGGLED), SMUGGLED[:4]), SMUGGLED[4:] + SECOND], X(SMUGGLED), GOT_SECOND)
served('a pause in the head', [request(length_of(SMUGGLED), SMUGGLED)[:30], request(length_of(SMUGGLED), SMUGGLED)[30:]], X(SMUGGLED))
served('a pause in a size', [request(CHUNKED, b'2'), b'e\r\n' + SMUGGLED + b'\r\n0\r\n\r\n' + SECOND], X(SMUGGLED), GOT_SECOND)
served('a pause in the end of a chunk', [request(CHUNKED, b'2e\r\n' + SMUGGLED + b'\r'), b'\n0\r\n\r\n' + SECOND], X(SMUGGLED),
    GOT_SECOND)
served('a pause before the last line', [request(CHUNKED, b'2e\r\n' + SMUGGLED + b'\r\n0\r\n'), b'\r\n' + SECOND], X(SMUGGLED), GOT_SECOND)
refused('a pause before what is no chunk', [request(CHUNKED, b'5\r\nhello\r\n'), SMUGGLED], 400)

# ---- answers ---------------------------------------------------------------------------------------------------------------
class Answer(Case):
    """The application's answer `kind`: `bad` is 502, `cut` that or an answer that is not whole, `good` is 200 and "ok" or `body`."""
    def __init__(self, kind, due, method=b'GET', fields=b''):
        super().__init__(f'{method.decode()} answer {kind}', b'', maybe=[b'answer.' + kind.encode()], lives=due == 'good')
        self.kind, self.due, self.method, self.fields = kind.encode(), due, method, fields

    def run(self, path):
        client = Client()
        client.send(request(self.fields, method=self.method, target=b'answer.' + self.kind).replace(MARK, path[1:-1]))
        status = None
        try:
            status, _, body = client.answer(self.method == b'HEAD')
        except Cut:
            pass
        if self.due == 'good':
            assert status == 200 and body == b'ok', f'{status} {body!r}'
        elif self.due == 'bad':
            assert status == 502, f'{status} where 502 is due'
        else:
            assert status in (502, None), f'{status} {body!r} where an end is due'
        assert b'poisoned' not in client.input, client.input
        if self.lives:
            client.send(b'GET ' + path + b'after HTTP/1.1\r\nHost: one\r\n\r\n')
            try:
                status, _, body = client.answer()
            except Cut:
                raise AssertionError('the connection did not live on')
            assert (status, body) == (200, b'GET ' + path + b'after 0'), f'after: {status} {body!r}'
        client.socket.close()

BAD_ANSWERS = """two-lengths same-lengths length-list length-plus length-hex length-negative length-empty length-under length-huge length-space
    length-point length-and-coding coding-and-length coding-x coding-gzip coding-identity coding-twice coding-list coding-other coding-old
    coding-tab coding-quoted bare-lf bare-cr nul fold space-colon no-colon no-name status-two status-four status-low status-spaces version-two
    version-lower not-http reason-nul empty-line body-alone interim-flood switch switch-h2c switch-bare""".split()
CUT_ANSWERS = """chunk-hex chunk-space chunk-plus chunk-lf chunk-overflow chunk-none chunk-long chunk-skip chunk-ext-lf chunk-ext-cr
    chunk-trailer""".split()
GOOD_ANSWERS = 'zeros interim no-reason obs-text trailers hop-by-hop extension'.split()
# Bytes behind the answer belong to nobody.
EXTRA_ANSWERS = 'extra extra-chunked extra-line no-content no-content-length not-modified nothing'.split()
if WORLD == 'h1':
    for kind in BAD_ANSWERS + EXTRA_ANSWERS:
        Answer(kind, 'bad')
        if kind != 'body-alone':
            Answer(kind, 'bad', b'HEAD')
    for kind in CUT_ANSWERS:
        Answer(kind, 'cut')
    for kind in GOOD_ANSWERS:
        Answer(kind, 'good')
    Answer('headed', 'bad', b'HEAD')
    Answer('headed-chunked', 'bad', b'HEAD')
    # What was switched to is not said.
    Answer('switch-bare', 'bad', fields=SOCKET + b'Sec-WebSocket-Version: 13\r\n')
