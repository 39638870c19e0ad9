# ruleid: xml-is-never-parsed
from lxml import etree

# ok: xml-is-never-parsed
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, fromstring, tostring

# ruleid: xml-is-never-parsed
from xml.dom import minidom

# ruleid: xml-is-never-parsed
fromstring("<a/>")
# ruleid: xml-is-never-parsed
ElementTree.parse("a.xml")
# ok: xml-is-never-parsed
tostring(Element("a"))
